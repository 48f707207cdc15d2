// series_key.hpp - the raw ids of a sample as words: what a series is found by.
// SPDX-License-Identifier: Apache-2.0
//
// One word per label; a process is its tgid and start (and its comm where there is no start), a
// string or address its length and bytes. Equal words means equal labels, and nothing is formatted.
#pragma once

#include <gopher/probe.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace gopher {

// A longer string is cut, in the key as in the text.
inline constexpr size_t kMaxLabelBytes = 1024;
inline constexpr size_t kMaxKeyWords = GOPHER_MAX_LABELS * (1 + kMaxLabelBytes / 8);

using KeyView = std::span<const uint64_t>;

// Not initialised: 12 KiB of stack of which a few words are used.
struct KeyBuffer {
  size_t size = 0;
  uint64_t words[kMaxKeyWords];
  KeyView view() const { return {words, size}; }
};

// How the labels of one metric become words.
class KeyShape {
 public:
  explicit KeyShape(const gopher_metric& metric);

  // False: a value that its type does not allow (a null string, an enum without a name, an address
  // of 5 bytes).
  bool encode(const gopher_value* values, KeyBuffer* out) const {
    size_t size = 0;  // kept in a register: each store here is one that an update waits for
    for (uint32_t i = 0; i < n_labels_; ++i) {
      if (plain_[i]) {  // nearly all: the number is the word
        out->words[size++] = values[i].num;
        continue;
      }
      out->size = size;
      if (!encode_other(i, values[i], out)) return false;
      size = out->size;
    }
    out->size = size;
    return true;
  }

 private:
  bool encode_other(uint32_t label, const gopher_value& value, KeyBuffer* out) const;

  const gopher_metric* metric_;
  uint32_t n_labels_;
  bool plain_[GOPHER_MAX_LABELS] = {};
};

// A GOPHER_STR value as key and text see it.
std::string_view key_string(const gopher_value& value);

}  // namespace gopher
