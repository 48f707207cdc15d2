// server.cpp - one HTTP server: routes with streamed bodies on a listening socket.
// SPDX-License-Identifier: Apache-2.0
#include "http/server.hpp"

#include <microhttpd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <thread>

#include "core/clock.hpp"
#include "core/log.hpp"

namespace gopher::http {
namespace {

// libmicrohttpd's memory per connection, touched only when used: a header, later one piece of the
// body. A page of 23 MB took 11 ms of CPU with 16 KiB and 8 to 10 ms with 48 KiB or more.
constexpr size_t kConnectionBytes = 64 * 1024;
// How often a connection is looked at that takes too long; without connections nobody wakes up.
constexpr int kLookMs = 1000;
// After a failed accept (no descriptors left) this is waited for some to be closed.
constexpr int kBreathMs = 100;

struct StopDaemon {
  void operator()(MHD_Daemon* d) const { MHD_stop_daemon(d); }
};
struct DestroyResponse {
  void operator()(MHD_Response* r) const { MHD_destroy_response(r); }
};
using ResponsePtr = std::unique_ptr<MHD_Response, DestroyResponse>;

int socket_of(MHD_Connection* connection) {
  auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info ? info->connect_fd : -1;
}

class MhdRequest final : public Request {
 public:
  MhdRequest(MHD_Connection* connection, const char* method, const char* path)
      : connection_(connection), method_(method), path_(path) {}
  std::string_view method() const override { return method_; }
  std::string_view path() const override { return path_; }
  std::string header(std::string_view name) const override {
    Search search{name, {}};
    MHD_get_connection_values(connection_, MHD_HEADER_KIND, collect, &search);
    return std::move(search.value);
  }

 private:
  struct Search {
    std::string_view name;
    std::string value;
  };
  static MHD_Result collect(void* arg, MHD_ValueKind, const char* key, const char* value) {
    auto* search = static_cast<Search*>(arg);
    if (std::strlen(key) == search->name.size() && value &&
        strncasecmp(key, search->name.data(), search->name.size()) == 0) {
      if (!search->value.empty()) search->value += ", ";
      search->value += value;
    }
    return MHD_YES;
  }
  MHD_Connection* connection_;
  std::string_view method_, path_;
};

// Exceptions must not cross libmicrohttpd; the only ones there are mean that memory is out.
ssize_t read_body(void* arg, uint64_t, char* buffer, size_t size) {
  try {
    size_t n = static_cast<Body*>(arg)->read(buffer, size);
    return n ? static_cast<ssize_t>(n) : MHD_CONTENT_READER_END_OF_STREAM;
  } catch (const std::exception& e) {
    GOPHER_LOG_ERROR("http: an answer was broken off: %s", e.what());
    return MHD_CONTENT_READER_END_WITH_ERROR;
  }
}

void free_body(void* arg) { delete static_cast<Body*>(arg); }

ResponsePtr make_response(Response& r) {
  ResponsePtr out;
  if (r.body) {
    out.reset(MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, kConnectionBytes, read_body,
                                                r.body.get(), free_body));
    if (out) r.body.release();
  } else {
    out.reset(MHD_create_response_from_buffer(r.text.size(), r.text.data(), MHD_RESPMEM_MUST_COPY));
  }
  if (!out) return out;
  // There is nothing here for a browser to run, keep or embed.
  r.headers.insert(r.headers.end(),
                   {{"Content-Type", r.content_type},
                    {"Cache-Control", "no-store"},
                    {"X-Content-Type-Options", "nosniff"},
                    {"Referrer-Policy", "no-referrer"},
                    {"Cross-Origin-Resource-Policy", "same-origin"},
                    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"}});
  for (const auto& [name, value] : r.headers)
    if (MHD_add_response_header(out.get(), name.c_str(), value.c_str()) != MHD_YES) return nullptr;
  return out;
}

Response error(unsigned status, std::string text) {
  return {.status = status, .text = std::move(text) + "\n"};
}

void log_line(void*, const char* format, va_list args) {
  char text[256];
  std::vsnprintf(text, sizeof text, format, args);
  text[std::strcspn(text, "\n")] = 0;
  GOPHER_LOG_DEBUG("libmicrohttpd: %s", text);
}

}  // namespace

struct Server::State {
  State(Listener l, const ServerOptions& o, std::vector<Route> r)
      : listener(std::move(l)),
        options(o),
        routes(std::move(r)),
        connections(o.connections, uint64_t{o.longest_s} * 1'000'000'000u) {}
  ~State() {
    if (!acceptor.joinable()) return;
    uint64_t one = 1;
    while (::write(wake.get(), &one, sizeof one) < 0 && errno == EINTR) continue;
    acceptor.join();
  }

  Result<> start();
  void accept_all();
  void run();
  Response answer(MHD_Connection* connection, const char* path, const char* method) const;
  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* path,
                               const char* method, const char* version, const char* data,
                               size_t* data_size, void** seen);
  static void on_completed(void* self, MHD_Connection* c, void** seen, MHD_RequestTerminationCode);
  static void on_connection(void* self, MHD_Connection* c, void**,
                            MHD_ConnectionNotificationCode code);

  Listener listener;
  const ServerOptions options;
  const std::vector<Route> routes;
  Connections connections;
  UniqueFd wake;
  std::unique_ptr<MHD_Daemon, StopDaemon> daemon;  // after all that its threads use
  std::thread acceptor;
};

Response Server::State::answer(MHD_Connection* connection, const char* path,
                               const char* method) const {
  auto* header = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  if (header && header->header_size > options.header_bytes)
    return error(431, "The request's header is too large.");
  auto route =
      std::find_if(routes.begin(), routes.end(), [&](const Route& r) { return r.path == path; });
  if (route == routes.end()) return error(404, "There is no such page; / lists what there is.");
  MhdRequest request(connection, method, path);
  if (request.method() != "GET" && request.method() != "HEAD") {
    Response r = error(405, "This page can only be read.");
    r.headers.emplace_back("Allow", "GET, HEAD");
    return r;
  }
  return route->handler(request);
}

MHD_Result Server::State::on_request(void* self, MHD_Connection* connection, const char* path,
                                     const char* method, const char*, const char*,
                                     size_t* data_size, void** seen) {
  auto& state = *static_cast<State*>(self);
  if (!*seen) {  // the header has come; a body may follow
    *seen = self;
    state.connections.set_busy(socket_of(connection), true, monotonic_ns());
    return MHD_YES;
  }
  if (*data_size) {  // no route takes a body
    *data_size = 0;
    return MHD_YES;
  }
  try {
    Response r = state.answer(connection, path, method);
    ResponsePtr response = make_response(r);
    return response ? MHD_queue_response(connection, r.status, response.get()) : MHD_NO;
  } catch (const std::exception& e) {
    GOPHER_LOG_ERROR("http: %s was not answered: %s", path, e.what());
    return MHD_NO;
  }
}

void Server::State::on_completed(void* self, MHD_Connection* c, void** seen,
                                 MHD_RequestTerminationCode) {
  if (*seen) static_cast<State*>(self)->connections.set_busy(socket_of(c), false, monotonic_ns());
  *seen = nullptr;
}

void Server::State::on_connection(void* self, MHD_Connection* c, void**,
                                  MHD_ConnectionNotificationCode code) {
  if (code == MHD_CONNECTION_NOTIFY_CLOSED)
    static_cast<State*>(self)->connections.remove(socket_of(c));
}

Result<> Server::State::start() {
  wake = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return errno_error(errno, "make an eventfd");
  unsigned flags =
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
  // Twice the limit: Connections enforces it, and those on their way out still count here. Each
  // thread of the pool gets its share of it, and they are not filled evenly.
  std::vector<MHD_OptionItem> items = {
      {MHD_OPTION_CONNECTION_LIMIT, intptr_t(2 * options.connections * options.threads), nullptr},
      {MHD_OPTION_CONNECTION_TIMEOUT, intptr_t(options.idle_s), nullptr},
      {MHD_OPTION_CONNECTION_MEMORY_LIMIT, intptr_t(kConnectionBytes), nullptr},
      {MHD_OPTION_NOTIFY_COMPLETED, reinterpret_cast<intptr_t>(&on_completed), this},
      {MHD_OPTION_NOTIFY_CONNECTION, reinterpret_cast<intptr_t>(&on_connection), this},
      {MHD_OPTION_STRICT_FOR_CLIENT, 1, nullptr},
  };
  if (options.threads > 1)  // of one the library wants no pool
    items.push_back({MHD_OPTION_THREAD_POOL_SIZE, intptr_t(options.threads), nullptr});
  items.push_back({MHD_OPTION_END, 0, nullptr});
  errno = 0;
  daemon.reset(MHD_start_daemon(flags, 0, nullptr, nullptr, &on_request, this,
                                MHD_OPTION_EXTERNAL_LOGGER, &log_line, nullptr, MHD_OPTION_ARRAY,
                                items.data(), MHD_OPTION_END));
  if (!daemon) return errno_error(errno ? errno : EIO, "start the HTTP server");
  acceptor = std::thread([this] { run(); });
  return Ok{};
}

void Server::State::accept_all() {
  while (true) {
    sockaddr_storage peer;
    socklen_t size = sizeof peer;
    int fd = ::accept4(listener.fd.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                       SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (fd < 0) {
      pollfd woken = {wake.get(), POLLIN, 0};
      if (errno != EAGAIN) ::poll(&woken, 1, kBreathMs);
      return;
    }
    if (!connections.admit(fd, monotonic_ns())) {
      ::close(fd);
      continue;
    }
    // Closes the socket if it fails, maybe without having told of it.
    if (MHD_add_connection(daemon.get(), fd, reinterpret_cast<sockaddr*>(&peer), size) != MHD_YES)
      connections.remove(fd);
  }
}

void Server::State::run() {
  pollfd fds[] = {{wake.get(), POLLIN, 0}, {listener.fd.get(), POLLIN, 0}};
  while (!(fds[0].revents & POLLIN)) {
    ::poll(fds, 2, connections.stats().open ? kLookMs : -1);
    if (fds[1].revents) accept_all();
    connections.cut(monotonic_ns());
  }
}

Result<std::unique_ptr<Server>> Server::start(Listener listener, const ServerOptions& options,
                                              std::vector<Route> routes) {
  auto state = std::make_unique<State>(std::move(listener), options, std::move(routes));
  if (auto r = state->start(); !r) return std::move(r).error();
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::~Server() = default;
const std::string& Server::address() const { return state_->listener.address; }
Connections::Stats Server::connections() const { return state_->connections.stats(); }

}  // namespace gopher::http
