// http_server_test.cpp - the HTTP server: routes, negotiation, limits, slow and stuck clients.
// SPDX-License-Identifier: Apache-2.0
#include "http/server.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <zlib.h>

#include <atomic>
#include <chrono>
#include <functional>

#include "http/accept.hpp"
#include "http/pages.hpp"
#include "page_fixture.hpp"

namespace gopher::http {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Clock = std::chrono::steady_clock;

constexpr auto kDeadline = std::chrono::seconds(20);

bool eventually(const std::function<bool()>& condition) {
  for (auto end = Clock::now() + kDeadline; Clock::now() < end;) {
    if (condition()) return true;
    ::poll(nullptr, 0, 2);
  }
  return false;
}

// A client that sends and receives when it is told to.
class Client {
 public:
  explicit Client(const std::string& address, int receive_buffer = 0) {
    uint16_t port = static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
    bool six = address[0] == '[';
    fd_ = UniqueFd(::socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (receive_buffer)
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    timeval limit = {kDeadline.count(), 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 in6 = {};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    in6.sin6_addr = in6addr_loopback;
    connected_ = six ? ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&in6), sizeof in6) == 0
                     : ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&in), sizeof in) == 0;
  }
  bool connected() const { return connected_; }
  bool send(const std::string& text) {
    return ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(text.size());
  }
  // Up to `n` bytes; what has come when the other side closed or the deadline passed.
  std::string receive(size_t n = SIZE_MAX) {
    std::string out;
    char buffer[65536];
    while (out.size() < n) {
      ssize_t got = ::recv(fd_.get(), buffer, std::min(sizeof buffer, n - out.size()), 0);
      if (got <= 0) {
        closed_ = got == 0 || errno == ECONNRESET;
        break;
      }
      out.append(buffer, static_cast<size_t>(got));
    }
    return out;
  }
  // True once the other side has closed, whatever it sent before.
  bool closed() {
    receive();
    return closed_;
  }

 private:
  UniqueFd fd_;
  bool connected_ = false, closed_ = false;
};

std::string ask(const std::string& address, const std::string& first_line,
                const std::string& headers = "") {
  Client c(address);
  c.send(first_line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + "\r\n");
  return c.receive();
}

std::string head(const std::string& answer) {
  return answer.substr(0, answer.find("\r\n\r\n") + 2);
}

// The body, without the chunks it came in.
std::string body(const std::string& answer) {
  std::string_view rest(answer);
  rest.remove_prefix(std::min(rest.size(), rest.find("\r\n\r\n") + 4));
  if (head(answer).find("Transfer-Encoding: chunked") == std::string::npos)
    return std::string(rest);
  std::string out;
  while (true) {
    size_t n = std::strtoul(std::string(rest.substr(0, 10)).c_str(), nullptr, 16);
    size_t line = rest.find("\r\n");
    if (line == rest.npos || n == 0 || rest.size() < line + 2 + n) return out;
    out.append(rest.substr(line + 2, n));
    rest.remove_prefix(std::min(rest.size(), line + 2 + n + 2));
  }
}

std::string gunzip(const std::string& in) {
  z_stream z = {};
  EXPECT_EQ(inflateInit2(&z, 15 + 16), Z_OK);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
  z.avail_in = static_cast<uInt>(in.size());
  std::string out, buffer(65536, 0);
  int status = Z_OK;
  while (status == Z_OK) {
    z.next_out = reinterpret_cast<Bytef*>(buffer.data());
    z.avail_out = static_cast<uInt>(buffer.size());
    status = inflate(&z, Z_NO_FLUSH);
    out.append(buffer, 0, buffer.size() - z.avail_out);
  }
  EXPECT_EQ(status, Z_STREAM_END);
  inflateEnd(&z);
  return out;
}

// `size` bytes, as fast as they are taken; counts those that are alive.
class LongBody final : public Body {
 public:
  LongBody(size_t size, std::atomic<int>* alive) : left_(size), alive_(alive) { ++*alive_; }
  ~LongBody() override { --*alive_; }
  size_t read(char* buffer, size_t size) override {
    size_t n = std::min(size, left_);
    std::fill_n(buffer, n, 'x');
    left_ -= n;
    return n;
  }

 private:
  size_t left_;
  std::atomic<int>* alive_;
};

class ServerTest : public ::testing::Test {
 protected:
  void start(const ServerOptions& options = {}, const char* address = "127.0.0.1:0") {
    std::vector<Route> routes = {
        metrics_route(store_, {}, [this](double) { ++scrapes_; }),
        health_route([this] { return illness_; }),
        index_route("0.1.0"),
        {"/long", [this](const Request&) {
           return Response{.body = std::make_unique<LongBody>(256u << 20, &alive_)};
         }}};
    auto listener = Listener::open(address);
    ASSERT_TRUE(listener) << listener.error().text;
    auto server = Server::start(*std::move(listener), options, std::move(routes));
    ASSERT_TRUE(server) << server.error().text;
    server_ = *std::move(server);
  }
  const std::string& address() const { return server_->address(); }

  store_test::FakeText text_;
  Store store_{{}, text_};
  std::optional<std::string> illness_;
  std::atomic<int> scrapes_{0}, alive_{0};
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, ServesPages) {
  start();
  std::string home = ask(address(), "GET /");
  EXPECT_THAT(home, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(home, HasSubstr("href=\"/metrics\""));
  EXPECT_THAT(home, HasSubstr("Content-Type: text/html; charset=utf-8\r\n"));
  EXPECT_THAT(home, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(home, HasSubstr("Content-Security-Policy: default-src 'none'"));
  EXPECT_THAT(ask(address(), "GET /nowhere"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask(address(), "GET /metrics/"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask(address(), "GET /metrics?x=y"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask(address(), "nonsense"), StartsWith("HTTP/1.1 4"));
}

TEST_F(ServerTest, OnlyReads) {
  start();
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
    std::string answer = ask(address(), std::string(method) + " /metrics", "Content-Length: 0\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 405 ")) << method;
    EXPECT_THAT(answer, HasSubstr("Allow: GET, HEAD\r\n"));
  }
  Client c(address());
  c.send(
      "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" +
      std::string(100'000, 'x'));
  EXPECT_THAT(c.receive(), StartsWith("HTTP/1.1 405 "));
}

TEST_F(ServerTest, HeadHasNoBody) {
  start();
  for (const char* page : {"/", "/metrics", "/healthz"}) {
    std::string answer = ask(address(), std::string("HEAD ") + page);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 ")) << page;
    EXPECT_EQ(head(answer) + "\r\n", answer) << page;
  }
}

TEST_F(ServerTest, HealthComesWithTheReason) {
  start();
  EXPECT_EQ(body(ask(address(), "GET /healthz")), "ok\n");
  illness_ = "probe io is stuck";
  std::string answer = ask(address(), "GET /healthz");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(body(answer), "probe io is stuck\n");
}

TEST_F(ServerTest, OneConnectionServesManyRequests) {
  start();
  Client c(address());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(c.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"));
    std::string answer;
    while (answer.find("\r\n\r\nok\n") == std::string::npos) {
      std::string more = c.receive(1);
      ASSERT_FALSE(more.empty());
      answer += more;
    }
  }
  EXPECT_EQ(server_->connections().accepted, 1u);
}

TEST_F(ServerTest, NegotiatesFormatAndCompression) {
  std::mt19937_64 random(41);
  store_test::fill(store_.shard(store_test::tables()), random, 500);
  start();
  std::string classic = ask(address(), "GET /metrics");
  EXPECT_THAT(head(classic),
              HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  EXPECT_THAT(head(classic), HasSubstr("Vary: Accept, Accept-Encoding\r\n"));
  EXPECT_THAT(head(classic), Not(HasSubstr("Content-Encoding")));
  EXPECT_EQ(body(classic), store_test::read_page(PrometheusPage(store_, {}, Exposition::kClassic)));
  EXPECT_GT(body(classic).size(), 200'000u);

  // In two lines, as Prometheus would never, and HTTP allows.
  std::string open = ask(address(), "GET /metrics",
                         "Accept: text/plain;q=0.5\r\n"
                         "accept: application/openmetrics-text;version=1.0.0\r\n"
                         "Accept-Encoding: gzip\r\n");
  EXPECT_THAT(head(open), HasSubstr("Content-Type: application/openmetrics-text; version=1.0.0"));
  EXPECT_THAT(head(open), HasSubstr("Content-Encoding: gzip\r\n"));
  EXPECT_LT(body(open).size(), 100'000u);
  EXPECT_EQ(gunzip(body(open)),
            store_test::read_page(PrometheusPage(store_, {}, Exposition::kOpenMetrics)));
  EXPECT_TRUE(eventually([&] { return scrapes_ == 2; }));
}

TEST_F(ServerTest, ServesIpv6AndOldClients) {
  start({}, "[::1]:0");
  EXPECT_THAT(address(), StartsWith("[::1]:"));
  EXPECT_EQ(body(ask(address(), "GET /healthz")), "ok\n");
  Client c(address());
  c.send("GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n");
  std::string answer = c.receive();
  EXPECT_THAT(answer, Not(HasSubstr("chunked")));
  EXPECT_EQ(body(answer), "# EOF\n");
}

TEST_F(ServerTest, AnAnyAddressServesBothFamilies) {
  start({}, "[::]:0");
  std::string port = address().substr(address().rfind(':'));
  EXPECT_EQ(body(ask("[::1]" + port, "GET /healthz")), "ok\n");
  EXPECT_EQ(body(ask("127.0.0.1" + port, "GET /healthz")), "ok\n");
}

TEST_F(ServerTest, AStuckClientDelaysNobody) {
  start({.threads = 1});
  std::vector<std::unique_ptr<Client>> stuck;
  for (int i = 0; i < 5; ++i) {
    stuck.push_back(std::make_unique<Client>(address(), 4096));
    stuck.back()->send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_FALSE(stuck.back()->receive(100).empty());  // it has begun
  }
  Client silent(address());
  EXPECT_EQ(alive_, 5);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(body(ask(address(), "GET /healthz")), "ok\n");
  EXPECT_EQ(alive_, 5) << "they are still there";
}

TEST_F(ServerTest, ClosesWhatDoesNotMove) {
  start({.idle_s = 1});
  Client silent(address()), half(address());
  half.send("GET / HTT");
  EXPECT_TRUE(silent.closed());
  EXPECT_TRUE(half.closed());
  EXPECT_TRUE(eventually([&] { return server_->connections().open == 0; }));
}

// Something moves all the time, so only the limit on the whole can end it.
TEST_F(ServerTest, CutsWhatTakesTooLong) {
  start({.idle_s = 600, .longest_s = 1});
  Client reader(address(), 4096), writer(address());
  reader.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
  writer.send("GET / HTTP/1.1\r\n");
  EXPECT_TRUE(eventually([&] {
    reader.receive(1);
    writer.send("X-Slow: 1\r\n");
    return server_->connections().cut == 2;
  }));
  EXPECT_TRUE(eventually([&] { return server_->connections().open == 0; }));
  EXPECT_EQ(alive_, 0);
}

TEST_F(ServerTest, WhenFullTheLongestWaitingMakesRoom) {
  start({.threads = 2, .connections = 2, .idle_s = 600});
  Client first(address());
  ASSERT_TRUE(eventually([&] { return server_->connections().accepted == 1; }));
  Client second(address());
  ASSERT_TRUE(eventually([&] { return server_->connections().accepted == 2; }));
  EXPECT_EQ(body(ask(address(), "GET /healthz")), "ok\n");
  EXPECT_TRUE(first.closed());
  EXPECT_EQ(server_->connections().evicted, 1u);
  second.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(body(second.receive()), "ok\n");
}

TEST_F(ServerTest, WhenFullOfAnswersItRefuses) {
  start({.threads = 2, .connections = 2, .idle_s = 600});
  std::vector<std::unique_ptr<Client>> busy;
  for (int i = 0; i < 2; ++i) {
    busy.push_back(std::make_unique<Client>(address(), 4096));
    busy.back()->send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_FALSE(busy.back()->receive(100).empty());
  }
  EXPECT_EQ(ask(address(), "GET /healthz"), "");
  EXPECT_EQ(server_->connections().refused, 1u);
  busy.clear();
  EXPECT_TRUE(eventually([&] { return server_->connections().open == 0; }));
  EXPECT_EQ(body(ask(address(), "GET /healthz")), "ok\n");
}

TEST_F(ServerTest, LimitsTheHeader) {
  start();
  EXPECT_THAT(ask(address(), "GET /healthz", "X: " + std::string(10'000, 'x') + "\r\n"),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(ask(address(), "GET /healthz", "X: " + std::string(20'000, 'x') + "\r\n"),
              StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(ask(address(), "GET /" + std::string(20'000, 'x')), StartsWith("HTTP/1.1 431 "));
  std::string endless = ask(address(), "GET /" + std::string(2'000'000, 'x'));
  EXPECT_THAT(endless, ::testing::AnyOf("", StartsWith("HTTP/1.1 4")));
  EXPECT_EQ(body(ask(address(), "GET /healthz")), "ok\n");
}

TEST_F(ServerTest, EndsInTheMiddleOfAnAnswer) {
  start();
  Client c(address(), 4096);
  c.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_FALSE(c.receive(100).empty());
  server_.reset();
  EXPECT_EQ(alive_, 0);
  EXPECT_TRUE(c.closed());
}

TEST(Listener, SaysWhyItCannot) {
  auto first = Listener::open("127.0.0.1:0");
  ASSERT_TRUE(first);
  auto second = Listener::open(first->address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().text, HasSubstr(first->address));
  for (const char* wrong :
       {"", ":", "8888", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:99999", "::1:8888",
        "[::1]", "[::1:8888", "[]:1", "[127.0.0.1]:1", "127.0.0.1:-1", "host:1", "127.0.0.1:1 "}) {
    auto r = Listener::open(wrong);
    ASSERT_FALSE(r) << wrong;
    EXPECT_EQ(r.error().code, EINVAL) << wrong;
    EXPECT_THAT(r.error().text, HasSubstr("127.0.0.1:8888")) << "says how it is written";
  }
}

TEST(Accept, ChoosesTheExposition) {
  const struct {
    const char* accept;
    bool open;
  } cases[] = {
      {"", false},
      {"*/*", false},
      {"text/plain", false},
      {"application/openmetrics-text", true},
      {"Application/OpenMetrics-Text; Version=1.0.0", true},
      {"application/openmetrics-text; version=\"1.0.0\"", true},
      {"application/openmetrics-text;version=2.0.0", false},
      {"application/openmetrics-text;version=0.0.1", false},
      {"application/openmetrics-text;q=0", false},
      {"application/openmetrics-text;q=0.4,text/plain;q=0.5", false},
      {"text/plain;q=0.5,application/openmetrics-text;q=0.5", true},
      {"application/openmetrics-text;q=nonsense", false},
      {"application/openmetrics-text;q=0.5000", false},
      {"application/openmetrics-text;q=2", false},
      // Prometheus 2.42 and 2.50.
      {"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0."
       "75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
       true},
      {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
       "q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;"
       "version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
       true},
      {"x/y;a=\"application/openmetrics-text,\"", false},
      {",,;;=,application/openmetrics-text", true},
  };
  for (const auto& c : cases)
    EXPECT_EQ(choose_exposition(c.accept) == Exposition::kOpenMetrics, c.open) << c.accept;
}

TEST(Accept, ReadsEncodings) {
  for (const char* yes :
       {"gzip", "GZIP", "deflate, gzip;q=0.5", "*", "x-gzip", "br , gzip ; q=1.0"})
    EXPECT_TRUE(accepts_gzip(yes)) << yes;
  for (const char* no : {"", "identity", "gzip;q=0", "gzip;q=0.000, *", "*;q=0", "gzipped", "br"})
    EXPECT_FALSE(accepts_gzip(no)) << no;
}

}  // namespace
}  // namespace gopher::http
