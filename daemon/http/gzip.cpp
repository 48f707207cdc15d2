// gzip.cpp - a body compressed on the way.
// SPDX-License-Identifier: Apache-2.0
#include "http/gzip.hpp"

#include <zlib.h>

#include <algorithm>
#include <vector>

namespace gopher::http {
namespace {

// 22.8 MB of label text took 144 ms and became 6.7 MB at level 1, 258 ms and 6.2 MB at level 3,
// 705 ms and 5.6 MB at level 6. 15 bits of window, + 16 for gzip's header.
constexpr int kLevel = 1, kWindow = 15 + 16, kMemory = 8;
// Text that is compressed in one call at most: about a millisecond, then it is another
// connection's turn.
constexpr size_t kInput = 64 * 1024;

class GzipBody final : public Body {
 public:
  explicit GzipBody(std::unique_ptr<Body> body) : body_(std::move(body)) {}
  ~GzipBody() override {
    if (ready_) deflateEnd(&z_);
  }
  bool init() {
    ready_ = deflateInit2(&z_, kLevel, Z_DEFLATED, kWindow, kMemory, Z_DEFAULT_STRATEGY) == Z_OK;
    if (ready_) input_.resize(kInput);
    return ready_;
  }
  std::unique_ptr<Body> take() { return std::move(body_); }

  size_t read(char* buffer, size_t size) override {
    z_.next_out = reinterpret_cast<Bytef*>(buffer);
    z_.avail_out = static_cast<uInt>(std::min<size_t>(size, 1u << 30));
    const uInt room = z_.avail_out;
    bool refilled = false;
    // The compressor keeps text back: without output the next input must follow at once, since no
    // output would mean the end.
    while (!finished_ && z_.avail_out > 0) {
      if (z_.avail_in == 0 && !ended_) {
        if (refilled && z_.avail_out < room) break;
        refill();
        refilled = true;
      }
      finished_ = deflate(&z_, ended_ ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_END;
    }
    return room - z_.avail_out;
  }

 private:
  void refill() {
    size_t n = body_->read(input_.data(), input_.size());
    ended_ = n == 0;
    z_.next_in = reinterpret_cast<Bytef*>(input_.data());
    z_.avail_in = static_cast<uInt>(n);
  }

  std::unique_ptr<Body> body_;
  std::vector<char> input_;
  z_stream z_ = {};
  bool ready_ = false, ended_ = false, finished_ = false;
};

}  // namespace

std::unique_ptr<Body> gzip(std::unique_ptr<Body> body, bool* compressed) {
  auto out = std::make_unique<GzipBody>(std::move(body));
  *compressed = out->init();
  if (*compressed) return out;
  return out->take();
}

}  // namespace gopher::http
