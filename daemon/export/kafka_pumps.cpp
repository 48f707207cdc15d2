// kafka_pumps.cpp - what is sent when, and what an acknowledgement or its absence means.
// SPDX-License-Identifier: Apache-2.0
#include "export/kafka_pumps.hpp"

#include <algorithm>
#include <utility>

#include "core/clock.hpp"
#include "core/log.hpp"

namespace gopher {
namespace {

constexpr uint64_t kMs = 1'000'000, kSecond = 1000 * kMs;
constexpr uint64_t kFirstBackoff = 500 * kMs, kLastBackoff = 30 * kSecond;
// What was acknowledged since comes again after a kill -9.
constexpr uint64_t kSaveEvery = 200 * kMs, kSaveEach = 250;
constexpr uint64_t kMetadataRetry = 10 * kSecond;
constexpr size_t kReadRows = 500, kReadBytes = 256 * 1024;

// The broker says no to the message itself, not to the moment.
bool permanent(rd_kafka_resp_err_t error) {
  return error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || error == RD_KAFKA_RESP_ERR_INVALID_RECORD;
}

}  // namespace

EventPump::EventPump(History& history, uint64_t position, std::string node)
    : history_(history),
      reader_(history),
      node_(std::move(node)),
      window_(position),
      read_seq_(position),
      saved_(position),
      position_(position) {}

uint64_t EventPump::lag() const {
  const uint64_t last = history_.last_seq(), position = position_;
  return last > position ? last - position : 0;
}

bool EventPump::done() const {
  return !rewinding_ && read_.empty() && window_.empty() && read_seq_ >= history_.last_seq();
}

void EventPump::restart() {
  rewinding_ = false;
  window_.reset();
  read_.clear();
  read_seq_ = window_.position();
}

// Begins again behind the position, as soon as the fate of all that is on its way is known: until
// then the same event could overtake itself.
void EventPump::rewind(uint64_t now_ns, bool wait) {
  rewinding_ = true;
  if (!wait || now_ns < hold_until_ns_) return;  // a failure often comes once per event
  backoff_ns_ = backoff_ns_ ? std::min(2 * backoff_ns_, kLastBackoff) : kFirstBackoff;
  hold_until_ns_ = now_ns + backoff_ns_;
}

uint64_t EventPump::read_more(uint64_t now_ns) {
  const uint64_t last = history_.last_seq();
  if (read_seq_ >= last) return kIdle;
  auto rows = reader_.after(read_seq_, kReadRows, kReadBytes);
  if (!rows) {
    GOPHER_LOG_WARNING("kafka: cannot read the local event store: %s", rows.error().text.c_str());
    rewind(now_ns, true);
    return hold_until_ns_;
  }
  if (rows->empty()) {  // what there was had to go
    read_seq_ = last;
    window_.skip_to(last);
    position_ = window_.position();
    return kIdle;
  }
  read_.assign(std::make_move_iterator(rows->begin()), std::make_move_iterator(rows->end()));
  read_seq_ = read_.back().seq;
  return 0;
}

// False: not now.
bool EventPump::send(KafkaProducer& producer, const History::Reader::Record& record,
                     uint64_t now_ns) {
  const rd_kafka_resp_err_t error =
      producer.produce(KafkaTopic::kEvents, node_, record.json, record.seq);
  if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) return false;
  window_.add(record.seq, record.json.size());
  if (error) delivered(record.seq, error, now_ns);
  return true;
}

uint64_t EventPump::pump(KafkaProducer& producer, uint64_t now_ns) {
  if (rewinding_) {
    if (window_.in_flight() > 0) return kIdle;
    if (now_ns < hold_until_ns_) return hold_until_ns_;
    restart();
  }
  while (!rewinding_) {
    if (read_.empty())
      if (const uint64_t next = read_more(now_ns); next != 0) return next;
    const auto& record = read_.front();
    if (window_.position() < single_until_ && window_.in_flight() > 0) return kIdle;
    if (window_.in_flight() >= kWindow || window_.bytes() >= kWindowBytes) return kIdle;
    if (!send(producer, record, now_ns)) return kIdle;
    read_.pop_front();
  }
  return 0;
}

void EventPump::delivered(uint64_t seq, rd_kafka_resp_err_t error, uint64_t now_ns) {
  // A batch is refused whole, so one that is too large takes its neighbours with it: sent alone,
  // each is judged for itself.
  const bool alone = seq <= single_until_;
  if (permanent(error) && alone) {
    ++lost;
    GOPHER_LOG_ERROR("kafka: the broker cannot take event %llu of the local store: %s",
                     static_cast<unsigned long long>(seq), rd_kafka_err2str(error));
    window_.ack(seq);
  } else if (!error) {
    if (window_.ack(seq)) ++acknowledged;
    backoff_ns_ = 0;
  } else if (window_.fail(seq)) {
    ++retries;
    if (permanent(error)) single_until_ = std::max(single_until_, seq);
    rewind(now_ns, !permanent(error));
  }
  position_ = window_.position();
}

void EventPump::save(uint64_t now_ns, bool force) {
  const uint64_t position = window_.position();
  if (position <= saved_) return;
  if (!force && now_ns < next_save_ns_ && position - saved_ < kSaveEach) return;
  next_save_ns_ = now_ns + kSaveEvery;
  if (auto r = history_.advance(kSink, position); !r) {
    // The events would be sent again after a restart: a pity, not a loss.
    GOPHER_LOG_DEBUG("kafka: cannot store the position: %s", r.error().text.c_str());
    next_save_ns_ = now_ns + kSaveEvery;
    return;
  }
  saved_ = position;
}

SnapshotPump::SnapshotPump(const Store& store, std::vector<const prometheus::Collectable*> own,
                           std::string node, uint64_t interval_ns, uint64_t now_ns)
    : store_(store),
      own_(std::move(own)),
      node_(std::move(node)),
      interval_ns_(interval_ns),
      next_ns_(now_ns + interval_ns) {}

void SnapshotPump::restart() {
  // Nothing will be heard of what was on its way.
  in_flight_ = 0;
  broken_ = broken_ || open_;
  walking_ = false;
  ready_.clear();
  next_ready_ = 0;
  finish_if_over();
}

void SnapshotPump::begin() {
  const uint64_t now = realtime_ns();
  json_.emplace(SnapshotHead{.node = node_, .id = to_string(ids_.next(now)), .time_ns = now});
  open_ = walking_ = true;
  broken_ = false;
  at_ = {};
  for (const auto* collectable : own_)
    for (const auto& family : collectable->Collect()) json_->append(family, &ready_);
}

// One chunk of the store. No cursor is held while we wait for the broker.
void SnapshotPump::read_more() {
  ready_.clear();
  next_ready_ = 0;
  Store::Cursor cursor(store_, at_);
  Chunk chunk, peek;
  if (!cursor.next(&chunk)) {
    walking_ = false;
    return;
  }
  at_ = cursor.position();
  const bool last = !cursor.next(&peek, 1) || peek.first;
  json_->append(chunk, last, &ready_);
}

uint64_t SnapshotPump::pump(KafkaProducer& producer, uint64_t now_ns) {
  if (now_ns >= next_ns_) {
    ++due;
    // After a pause (a suspended machine) one is enough.
    next_ns_ += (now_ns - next_ns_) / interval_ns_ * interval_ns_ + interval_ns_;
    if (open_)
      ++skipped;
    else
      begin();
  }
  while (open_ && (walking_ || next_ready_ < ready_.size())) {
    if (next_ready_ == ready_.size()) {
      read_more();
      continue;
    }
    const MetricsRecord& record = ready_[next_ready_];
    const auto error =
        producer.produce(KafkaTopic::kMetrics, node_ + "/" + record.metric, record.json, 0);
    if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL) return next_ns_;
    if (error)
      broken_ = true;
    else
      ++in_flight_;
    ++next_ready_;
    if (next_ready_ == ready_.size()) return 0;  // let events through between two chunks
  }
  finish_if_over();
  return next_ns_;
}

void SnapshotPump::finish_if_over() {
  if (!open_ || walking_ || in_flight_ > 0 || next_ready_ < ready_.size()) return;
  open_ = false;
  json_.reset();
  ready_.clear();
  next_ready_ = 0;
  ++(broken_ ? failed : whole);
}

void SnapshotPump::delivered(rd_kafka_resp_err_t error) {
  if (in_flight_ > 0) --in_flight_;
  if (error && !broken_) {
    // The rest would not make it whole.
    broken_ = true;
    walking_ = false;
    ready_.clear();
    next_ready_ = 0;
  }
  finish_if_over();
}

MetadataPump::MetadataPump(NodeInfo node, std::function<std::vector<ProbeInfo>()> probes,
                           std::string schema, uint64_t interval_ns)
    : node_(std::move(node)),
      probes_(std::move(probes)),
      schema_(std::move(schema)),
      interval_ns_(interval_ns) {}

void MetadataPump::restart() {
  in_flight_ = false;
  next_send_ns_ = 0;
}

uint64_t MetadataPump::pump(KafkaProducer& producer, uint64_t now_ns) {
  if (in_flight_) return kIdle;
  if (now_ns < next_look_ns_) return next_look_ns_;
  next_look_ns_ = now_ns + kSecond;
  std::vector<ProbeInfo> probes = probes_();
  if (now_ns < next_send_ns_ && probes == sent_) return next_look_ns_;
  const std::string json = metadata_json(node_, probes, schema_, realtime_ns());
  const auto error = producer.produce(KafkaTopic::kMetadata, node_.node, json, 0);
  if (error) return next_look_ns_;
  in_flight_ = true;
  sent_ = std::move(probes);
  next_send_ns_ = now_ns + interval_ns_;
  return kIdle;
}

void MetadataPump::delivered(rd_kafka_resp_err_t error) {
  in_flight_ = false;
  if (error) {
    ++failed;
    next_send_ns_ = std::min(next_send_ns_, monotonic_ns() + kMetadataRetry);
  } else {
    ++acknowledged;
  }
}

}  // namespace gopher
