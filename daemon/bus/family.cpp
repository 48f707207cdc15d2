// family.cpp - all series of one metric.
// SPDX-License-Identifier: Apache-2.0
#include "bus/family.hpp"

#include <algorithm>
#include <cmath>

#include "bus/labels.hpp"

namespace gopher {

Family::Family(const gopher_metric& def)
    : def_(&def), shape_(def), n_buckets_(def.kind == GOPHER_HISTOGRAM ? def.n_bounds + 1 : 0) {}

bool Family::valid(const gopher_sample& sample) const {
  if (!sample.labels && def_->n_labels) return false;
  switch (def_->kind) {
    case GOPHER_COUNTER:
      return sample.op == GOPHER_ADD && sample.value >= 0 && std::isfinite(sample.value);
    case GOPHER_GAUGE:
      return sample.op == GOPHER_SET && !std::isnan(sample.value);
    default:
      return sample.op == GOPHER_ADD && sample.buckets && std::isfinite(sample.sum);
  }
}

Family::~Family() {
  for (Series* s : slots_)
    if (s) std::destroy_at(s);
}

Series* Family::look_up(KeyView key) {
  Turn& turn = turns_[turn_];
  Series* found = turn.fetched;
  if (!found || !same(*found, key)) {
    auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    found = *it;
  }
  wrong_ = found->slot == turn.foreseen ? 0 : wrong_ + 1;
  if (turn.before) turn.before->ahead = found->slot;
  turn = {.before = found, .foreseen = found->ahead, .fetched = nullptr};
  if (wrong_ < kDoubt && turn.foreseen < slots_.size() && slots_[turn.foreseen]) {
    turn.fetched = slots_[turn.foreseen];
    __builtin_prefetch(turn.fetched, 1);
    __builtin_prefetch(reinterpret_cast<const char*>(turn.fetched) + kLine);
  }
  turn_ = (turn_ + 1) % kAhead;
  return found;
}

Series* Family::find(KeyView key, uint32_t now_s) {
  Series* series = look_up(key);
  if (!series || series->role != SeriesRole::kAlias) return series;
  series->last_s = now_s;
  return series->target;
}

Series* Family::insert(SeriesRole role, KeyView key, std::string_view text) {
  auto* s = new (pool_.allocate(bytes_of(key.size()), kLine)) Series{};
  s->role = role;
  s->key_words = static_cast<uint16_t>(key.size());
  s->text_size = static_cast<uint32_t>(text.size());
  s->text_bytes = SeriesText(new char[text.size()]);
  std::copy(key.begin(), key.end(), s->key_data());
  std::copy(text.begin(), text.end(), s->text_bytes.get());
  std::fill_n(s->buckets(), n_buckets_, 0);
  if (free_slots_.empty()) {
    s->slot = static_cast<uint32_t>(slots_.size());
    slots_.push_back(s);
  } else {
    s->slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[s->slot] = s;
  }
  return s;
}

Series* Family::add(KeyView key, std::string_view text, uint32_t now_s) {
  auto same_text = texts_.find(text);
  if (same_text != texts_.end()) {
    Series* alias = insert(SeriesRole::kAlias, key, {});
    alias->target = *same_text;
    alias->last_s = now_s;
    index_.insert(alias);
    ++aliases_;
    return alias->target;
  }
  Series* series = insert(SeriesRole::kOwn, key, text);
  index_.insert(series);
  texts_.insert(series);
  return series;
}

Series* Family::other() {
  if (other_ || def_->kind == GOPHER_GAUGE) return other_;
  std::string text = other_labels(*def_);
  auto same_text = texts_.find(std::string_view(text));
  if (same_text != texts_.end()) return other_ = *same_text;
  other_ = insert(SeriesRole::kOther, {}, text);
  texts_.insert(other_);
  return other_;
}

void Family::update(Series* series, const gopher_sample& sample, uint32_t now_s) const {
  series->last_s = now_s;
  if (def_->kind == GOPHER_COUNTER) {
    series->value += sample.value;
  } else if (def_->kind == GOPHER_GAUGE) {
    series->value = sample.value;
  } else {
    series->value += sample.sum;
    uint64_t* buckets = series->buckets();
    for (uint32_t b = 0; b < n_buckets_; ++b) buckets[b] += sample.buckets[b];
  }
}

SeriesText Family::remove(Series* series) {
  if (series->role != SeriesRole::kOther) index_.erase(series);
  if (series->role == SeriesRole::kAlias)
    --aliases_;
  else
    texts_.erase(series);
  if (series == other_) other_ = nullptr;
  turns_ = {};  // which may hold it
  slots_[series->slot] = nullptr;
  free_slots_.push_back(series->slot);
  SeriesText text = std::move(series->text_bytes);
  size_t bytes = bytes_of(series->key_words);
  std::destroy_at(series);
  pool_.deallocate(series, bytes, kLine);
  return text;
}

void Family::expire(size_t from, size_t to, uint32_t oldest_s, bool aliases,
                    std::vector<SeriesText>* dead) {
  to = std::min(to, slots_.size());
  for (size_t i = from; i < to; ++i) {
    Series* s = slots_[i];
    if (s && s->last_s < oldest_s && (s->role == SeriesRole::kAlias) == aliases)
      dead->push_back(remove(s));
  }
}

size_t Family::read(size_t from, size_t max, Chunk* chunk) const {
  size_t i = from;
  for (; i < slots_.size() && chunk->series.size() < max; ++i) {
    const Series* s = slots_[i];
    if (!s || s->role == SeriesRole::kAlias) continue;
    SeriesView view = {.labels = s->text(), .slot = static_cast<uint32_t>(i)};
    if (n_buckets_) {
      view.sum = s->value;
      auto& space = chunk->bucket_space;
      space.insert(space.end(), s->buckets(), s->buckets() + n_buckets_);
    } else {
      view.value = s->value;
    }
    chunk->series.push_back(view);
  }
  for (size_t k = 0; n_buckets_ && k < chunk->series.size(); ++k)
    chunk->series[k].buckets = {chunk->bucket_space.data() + k * n_buckets_, n_buckets_};
  return i;
}

}  // namespace gopher
