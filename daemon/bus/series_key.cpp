// series_key.cpp - the raw ids of a sample as words.
// SPDX-License-Identifier: Apache-2.0
#include "bus/series_key.hpp"

#include <algorithm>
#include <cstring>

namespace gopher {
namespace {

void put_bytes(const void* data, size_t length, KeyBuffer* out) {
  uint64_t* at = out->words + out->size;
  size_t words = (length + 7) / 8;
  at[0] = length;
  if (words) at[words] = 0;  // the last word may not be full
  std::memcpy(at + 1, data, length);
  out->size += 1 + words;
}

bool put_process(const gopher_process* process, KeyBuffer* out) {
  if (!process) return false;
  uint64_t* at = out->words + out->size;
  at[0] = process->tgid;
  at[1] = process->start_ns;
  out->size += 2;
  if (process->start_ns == 0) {  // a collective name: the name is all there is
    char comm[sizeof process->comm] = {};
    std::memcpy(comm, process->comm, strnlen(process->comm, sizeof comm));
    put_bytes(comm, sizeof comm, out);
  }
  return true;
}

}  // namespace

std::string_view key_string(const gopher_value& value) {
  size_t length = value.len ? value.len : strnlen(value.str, kMaxLabelBytes + 1);
  if (length > kMaxLabelBytes) {
    length = kMaxLabelBytes;
    while (length > kMaxLabelBytes - 4 && (value.str[length] & 0xC0) == 0x80) --length;
  }
  return {value.str, length};
}

KeyShape::KeyShape(const gopher_metric& metric)
    : metric_(&metric), n_labels_(std::min<uint32_t>(metric.n_labels, GOPHER_MAX_LABELS)) {
  for (uint32_t i = 0; i < n_labels_; ++i) {
    switch (metric.labels[i].type) {
      case GOPHER_STR:
      case GOPHER_ADDR:
      case GOPHER_PROCESS:
      case GOPHER_ENUM:
      case GOPHER_ERRNO:
      case GOPHER_BOOL:
        break;
      default:
        plain_[i] = true;
    }
  }
}

bool KeyShape::encode_other(uint32_t label, const gopher_value& value, KeyBuffer* out) const {
  switch (metric_->labels[label].type) {
    case GOPHER_STR: {
      if (!value.str) return false;
      std::string_view s = key_string(value);
      put_bytes(s.data(), s.size(), out);
      return true;
    }
    case GOPHER_ADDR:
      if (!value.data || (value.len != 4 && value.len != 16)) return false;
      put_bytes(value.data, value.len, out);
      return true;
    case GOPHER_PROCESS:
      return put_process(value.process, out);
    case GOPHER_ENUM:
      if (value.num >= metric_->labels[label].n_values) return false;
      out->words[out->size++] = value.num;
      return true;
    case GOPHER_ERRNO:  // unsigned: the least int64_t has no negative
      out->words[out->size++] = value.snum < 0 ? -value.num : value.num;
      return true;
    default:  // GOPHER_BOOL
      out->words[out->size++] = value.num != 0;
      return true;
  }
}

}  // namespace gopher
