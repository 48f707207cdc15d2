// pages.cpp - the routes that gopherd serves.
// SPDX-License-Identifier: Apache-2.0
#include "http/pages.hpp"

#include "core/clock.hpp"
#include "export/prometheus.hpp"
#include "http/accept.hpp"
#include "http/gzip.hpp"

namespace gopher::http {
namespace {

class PageBody final : public Body {
 public:
  PageBody(const Store& store, std::span<const prometheus::Collectable* const> own,
           Exposition format)
      : page_(store, own, format) {}
  size_t read(char* buffer, size_t size) override { return page_.read(buffer, size); }

 private:
  PrometheusPage page_;
};

class TimedBody final : public Body {
 public:
  TimedBody(std::unique_ptr<Body> body, uint64_t spent_ns, ScrapeDone done)
      : body_(std::move(body)), spent_ns_(spent_ns), done_(std::move(done)) {}
  size_t read(char* buffer, size_t size) override {
    uint64_t start = monotonic_ns();
    size_t n = body_->read(buffer, size);
    spent_ns_ += monotonic_ns() - start;
    if (n == 0 && done_) done_(static_cast<double>(spent_ns_) / 1e9);
    return n;
  }

 private:
  std::unique_ptr<Body> body_;
  uint64_t spent_ns_;
  ScrapeDone done_;
};

}  // namespace

Route metrics_route(const Store& store, std::vector<const prometheus::Collectable*> own,
                    ScrapeDone done) {
  auto handler = [&store, own = std::move(own), done = std::move(done)](const Request& request) {
    Exposition format = choose_exposition(request.header("Accept"));
    Response r = {.content_type = std::string(content_type(format)),
                  .headers = {{"Vary", "Accept, Accept-Encoding"}}};
    if (request.method() == "HEAD") return r;
    uint64_t start = monotonic_ns();
    r.body = std::make_unique<PageBody>(store, own, format);
    bool compressed = false;
    if (accepts_gzip(request.header("Accept-Encoding")))
      r.body = gzip(std::move(r.body), &compressed);
    if (compressed) r.headers.emplace_back("Content-Encoding", "gzip");
    r.body = std::make_unique<TimedBody>(std::move(r.body), monotonic_ns() - start, done);
    return r;
  };
  return {"/metrics", std::move(handler)};
}

Route health_route(std::function<std::optional<std::string>()> reason) {
  return {"/healthz", [reason = std::move(reason)](const Request&) -> Response {
            auto why = reason();
            if (why) return {.status = 503, .text = *why + "\n"};
            return {.text = "ok\n"};
          }};
}

Route index_route(const std::string& version) {
  std::string page =
      "<!doctype html>\n<html lang=\"en\">\n<title>gopherd</title>\n<h1>gopherd " + version +
      "</h1>\n<ul>\n<li><a href=\"/metrics\">/metrics</a>: all metrics, for Prometheus\n"
      "<li><a href=\"/healthz\">/healthz</a>: \"ok\", or what is wrong\n</ul>\n</html>\n";
  return {"/", [page = std::move(page)](const Request&) -> Response {
            return {.content_type = "text/html; charset=utf-8", .text = page};
          }};
}

}  // namespace gopher::http
