// output.hpp - the io probe's numbers and records as metrics and events.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <io.h>

#include <cstring>
#include <gopher/probe.hpp>
#include <optional>

#include "logic.hpp"
#include "tables.hpp"

namespace io {

static_assert(sizeof(gopher_task) == sizeof(gopher_process) &&
              offsetof(gopher_task, start_ns) == offsetof(gopher_process, start_ns) &&
              offsetof(gopher_task, cgroup) == offsetof(gopher_process, cgroup_id) &&
              offsetof(gopher_task, comm) == offsetof(gopher_process, comm));

class Output {
 public:
  explicit Output(gopher::Host host);

  void series(const io_key& key, const Gained& g) const;
  void pages(uint32_t dev, const io_pages& gained) const;
  void error(const io_error_key& key, uint64_t n) const;
  void process(const io_process_key& key, const io_process_stats& gained) const;
  void depth(uint32_t dev, const InFlight::Depth& d) const;

  gopher_event_id stuck(const InFlight::Stuck& s, uint64_t now_ns) const;
  // `stuck`: the event that this end of a request ends.
  void event(const io_record& e, const std::optional<gopher_event_id>& stuck) const;

 private:
  template <gopher::FixedString kName>
  using Metric = gopher::Metric<kMetrics, kName>;
  template <gopher::FixedString kName>
  using Event = gopher::Event<kEvents, kName>;

  Metric<"gopher_io_request_duration_seconds"> duration_;
  Metric<"gopher_io_request_stage_seconds"> stage_;
  Metric<"gopher_io_requests_total"> requests_;
  Metric<"gopher_io_bytes_total"> bytes_;
  Metric<"gopher_io_request_size_bytes"> size_;
  Metric<"gopher_io_sequential_requests_total"> sequential_;
  Metric<"gopher_io_untimed_requests_total"> untimed_;
  Metric<"gopher_io_errors_total"> errors_;
  Metric<"gopher_io_in_flight"> in_flight_;
  Metric<"gopher_io_oldest_request_seconds"> oldest_;
  Metric<"gopher_io_process_requests_total"> process_requests_;
  Metric<"gopher_io_process_bytes_total"> process_bytes_;
  Metric<"gopher_io_process_duration_seconds"> process_duration_;
  Metric<"gopher_io_process_dirtied_bytes_total"> process_dirtied_;
  Metric<"gopher_io_page_cache_added_bytes_total"> added_;
  Metric<"gopher_io_page_cache_dirtied_bytes_total"> dirtied_;
  Metric<"gopher_io_page_cache_written_bytes_total"> written_;
  Event<"io_error"> io_error_;
  Event<"slow_request"> slow_request_;
  Event<"stuck_request"> stuck_request_;
  Event<"stuck_request_ended"> stuck_request_ended_;
};

}  // namespace io
