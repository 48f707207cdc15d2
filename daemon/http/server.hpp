// server.hpp - one HTTP server: routes with streamed bodies on a listening socket.
// SPDX-License-Identifier: Apache-2.0
//
// One thread accepts and enforces limits; a pool of libmicrohttpd's threads answers, each serving
// any number of connections without waiting for one. A body is pulled in pieces when its client
// can take them, so a slow client costs a socket and a few KiB, and delays nobody.
#pragma once

#include <gopher/result.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/connections.hpp"
#include "http/listener.hpp"

namespace gopher::http {

class Request {
 public:
  virtual ~Request() = default;
  virtual std::string_view method() const = 0;  // GET or HEAD
  virtual std::string_view path() const = 0;    // decoded, without the query
  // All lines of this header joined by commas; "" if there is none.
  virtual std::string header(std::string_view name) const = 0;
};

// A body of unknown length.
class Body {
 public:
  virtual ~Body() = default;
  // The next piece, at most `size` bytes; 0: the end. Must not wait for anything.
  virtual size_t read(char* buffer, size_t size) = 0;
};

struct Response {
  unsigned status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string text = {};            // the body,
  std::unique_ptr<Body> body = {};  // or what streams it
};

using Handler = std::function<Response(const Request&)>;

struct Route {
  std::string path;  // exact
  Handler handler;   // on one of the server's threads; must not wait for anything
};

struct ServerOptions {
  unsigned threads = 2;
  unsigned connections = 64;
  unsigned idle_s = 10;             // a connection on which nothing moves is closed
  unsigned longest_s = 60;          // so is one whose request or answer takes longer in all
  size_t header_bytes = 16 * 1024;  // most bytes of request line and headers
};

class Server {
 public:
  // The listener is taken over; a failed start gives it up.
  static Result<std::unique_ptr<Server>> start(Listener listener, const ServerOptions& options,
                                               std::vector<Route> routes);
  ~Server();  // closes all connections
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const std::string& address() const;
  Connections::Stats connections() const;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gopher::http
