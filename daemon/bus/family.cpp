// family.cpp - all series of one metric.
// SPDX-License-Identifier: Apache-2.0
#include "bus/family.hpp"

#include <algorithm>
#include <cmath>

#include "bus/labels.hpp"

namespace gopher {

Family::Family(const gopher_metric& def)
    : def_(&def), n_buckets_(def.kind == GOPHER_HISTOGRAM ? def.n_bounds + 1 : 0) {}

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

size_t Family::hash(KeyView key) {
  return absl::HashOf(
      std::string_view(reinterpret_cast<const char*>(key.data()), key.size_bytes()));
}

Series* Family::find(KeyView key, size_t hash, uint32_t now_s) {
  auto it = index_.find(key, hash);
  if (it == index_.end()) return nullptr;
  Series* series = *it;
  if (series->role != SeriesRole::kAlias) return series;
  series->last_s = now_s;
  return series->target;
}

Series* Family::insert(SeriesPtr series) {
  if (free_slots_.empty()) {
    series->slot = static_cast<uint32_t>(slots_.size());
    slots_.push_back(nullptr);
  } else {
    series->slot = free_slots_.back();
    free_slots_.pop_back();
  }
  Series* s = series.get();
  slots_[s->slot] = std::move(series);
  return s;
}

Series* Family::add(KeyView key, std::string_view text, uint32_t now_s) {
  auto same_text = texts_.find(text);
  if (same_text != texts_.end()) {
    Series* alias = insert(make_series(SeriesRole::kAlias, key, {}, 0));
    alias->target = *same_text;
    alias->last_s = now_s;
    index_.insert(alias);
    ++aliases_;
    return alias->target;
  }
  Series* series = insert(make_series(SeriesRole::kOwn, key, text, n_buckets_));
  index_.insert(series);
  texts_.insert(series);
  return series;
}

Series* Family::other() {
  if (other_ || def_->kind == GOPHER_GAUGE) return other_;
  std::string text = other_labels(*def_);
  auto same_text = texts_.find(std::string_view(text));
  if (same_text != texts_.end()) return other_ = *same_text;
  other_ = insert(make_series(SeriesRole::kOther, {}, text, n_buckets_));
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

SeriesPtr Family::take(size_t slot) {
  SeriesPtr series = std::move(slots_[slot]);
  if (series->role != SeriesRole::kOther) index_.erase(index_.find(series->key()));
  if (series->role == SeriesRole::kAlias)
    --aliases_;
  else
    texts_.erase(texts_.find(series->text()));
  if (series.get() == other_) other_ = nullptr;
  free_slots_.push_back(static_cast<uint32_t>(slot));
  return series;
}

void Family::expire(size_t from, size_t to, uint32_t oldest_s, bool aliases,
                    std::vector<SeriesPtr>* dead) {
  to = std::min(to, slots_.size());
  for (size_t i = from; i < to; ++i) {
    const Series* s = slots_[i].get();
    if (s && s->last_s < oldest_s && (s->role == SeriesRole::kAlias) == aliases)
      dead->push_back(take(i));
  }
}

size_t Family::read(size_t from, size_t max, Chunk* chunk) const {
  size_t i = from;
  for (; i < slots_.size() && chunk->series.size() < max; ++i) {
    const Series* s = slots_[i].get();
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
