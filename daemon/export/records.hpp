// records.hpp - what is sent beside events: snapshots of metrics and the node's metadata, as JSON.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bus/store.hpp"
#include "export/json.hpp"

namespace gopher {

// One record of a snapshot: one metric, or a part of its series.
struct MetricsRecord {
  std::string metric;
  std::string json;
};

// What all records of a snapshot have in common.
struct SnapshotHead {
  std::string node;
  std::string id;  // the same in all its records, ascending
  uint64_t time_ns = 0;
};

// Writes the records of one metric, in parts of bounded size.
class MetricsJson {
 public:
  // Brokers take 1 MiB per message unless told otherwise; a series never takes so much alone.
  static constexpr size_t kPartBytes = 256 * 1024;
  explicit MetricsJson(SnapshotHead head) : head_(std::move(head)) {}

  // `last`: no more series of this metric follow.
  void append(const Chunk& chunk, bool last, std::vector<MetricsRecord>* out);
  void append(const prometheus::MetricFamily& family, std::vector<MetricsRecord>* out);

 private:
  Json begin(std::string_view probe, std::string_view metric, const char* kind, bool last);

  const SnapshotHead head_;
  uint64_t part_ = 0;
};

const char* kind_name(uint32_t kind);  // enum gopher_kind
const char* kind_name(prometheus::MetricType type);
// What `probe` says of the daemon's own metrics.
inline constexpr const char* kOwnProbe = "gopherd";

struct NodeInfo {
  std::string node, boot_id, version, kernel, arch;
};
// Of this machine; `node` and `version` as given.
NodeInfo this_node(std::string node, std::string version);

struct ProbeInfo {
  struct Hook {
    std::string name;
    std::string program;  // empty: none attached
    bool operator==(const Hook&) const = default;
  };
  std::string name, version;
  std::string state;   // created, running, degraded, failed, stopped
  std::string reason;  // of degraded and failed
  std::vector<Hook> hooks;
  bool operator==(const ProbeInfo&) const = default;
};

// `schema` is JSON text.
std::string metadata_json(const NodeInfo& node, const std::vector<ProbeInfo>& probes,
                          const std::string& schema, uint64_t time_ns);

}  // namespace gopher
