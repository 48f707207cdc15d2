// result.hpp - a value or an error with context; the error goes up, one place logs it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <variant>

namespace gopher {

// `code` is a positive errno; `text` is one clause that says what was tried.
struct Error {
  int code = EINVAL;
  std::string text;

  // The same error seen from one level up: "outer: inner".
  Error within(const std::string& outer) && { return {code, outer + ": " + text}; }
};

inline Error errno_error(int code, std::string what) {
  code = code < 0 ? -code : code;
  return {code, std::move(what) + ": " + std::strerror(code)};
}

struct Ok {};

// Rule: a function that can fail returns Result; a constructor cannot fail; nothing throws.
template <class T = Ok>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return v_.index() == 0; }
  T& operator*() & { return *std::get_if<0>(&v_); }
  const T& operator*() const& { return *std::get_if<0>(&v_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&v_)); }
  T* operator->() { return std::get_if<0>(&v_); }
  const T* operator->() const { return std::get_if<0>(&v_); }
  Error& error() & { return *std::get_if<1>(&v_); }
  const Error& error() const& { return *std::get_if<1>(&v_); }
  Error&& error() && { return std::move(*std::get_if<1>(&v_)); }

 private:
  std::variant<T, Error> v_;
};

}  // namespace gopher
