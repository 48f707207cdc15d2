// tables.hpp - what the io probe takes, gives and attaches to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <io.h>

#include <array>
#include <cstddef>
#include <gopher/metric.hpp>

namespace io {

struct Config {
  bool by_process;
  bool page_cache;
  bool driver_stage;
  int64_t slow_ms;
  int64_t stuck_s;
};

inline constexpr auto kOptions = gopher::option_table({
    {.name = "by_process",
     .help = "Tell which process and cgroup caused a request; gives the requests in flight and "
             "those that are stuck, too.",
     .unit = "",
     .default_value = "true",
     .type = GOPHER_OPT_BOOL,
     .offset = offsetof(Config, by_process)},
    {.name = "page_cache",
     .help = "Count the bytes added to the page cache, dirtied in it and written back from it.",
     .unit = "",
     .default_value = "true",
     .type = GOPHER_OPT_BOOL,
     .offset = offsetof(Config, page_cache)},
    {.name = "driver_stage",
     .help = "Time what the driver itself takes after the device is done; NVMe and SCSI only.",
     .unit = "",
     .default_value = "false",
     .type = GOPHER_OPT_BOOL,
     .offset = offsetof(Config, driver_stage)},
    {.name = "slow_ms",
     .help = "A request that takes this long is an event; 0: none is.",
     .unit = "ms",
     .default_value = "1000",
     .min = 0,
     .max = 3'600'000,
     .type = GOPHER_OPT_INT,
     .offset = offsetof(Config, slow_ms)},
    {.name = "stuck_s",
     .help = "A request that is in flight for this long is an event, and so is its end; 0: none "
             "is. Needs by_process.",
     .unit = "s",
     .default_value = "30",
     .min = 0,
     .max = 86'400,
     .type = GOPHER_OPT_INT,
     .offset = offsetof(Config, stuck_s)},
});

// In the order of enum io_op and enum io_class.
inline constexpr const char* kOperations[] = {
    "read", "write", "flush", "discard", "secure_erase", "write_zeroes", "zone", "passthrough"};
inline constexpr const char* kClasses[] = {"sync", "async", "readahead", "metadata"};
enum Stage { kQueue, kDevice, kDriver };
inline constexpr const char* kStages[] = {"queue", "device", "driver"};
static_assert(std::size(kOperations) == IO_OPS && std::size(kClasses) == IO_CLASSES);

template <size_t N>
consteval std::array<double, N> bounds_from(double first, double factor) {
  std::array<double, N> out{};
  for (double& b : out) {
    b = first;
    first *= factor;
  }
  return out;
}
inline constexpr auto kTimeBounds = bounds_from<26>(1e-6, 2);     // 1 us to 34 s
inline constexpr auto kProcessBounds = bounds_from<13>(2e-6, 4);  // 2 us to 34 s
inline constexpr auto kSizeBounds = bounds_from<14>(512, 2);      // 512 bytes to 4 MiB
static_assert(kTimeBounds.size() < IO_TIME_SLOTS && kProcessBounds.size() < IO_PROCESS_SLOTS &&
              kSizeBounds.size() < IO_SIZE_SLOTS);

inline constexpr auto kDeviceLabel = gopher::label("device", GOPHER_DEV);
inline constexpr auto kProcessLabel = gopher::label("process", GOPHER_PROCESS);
inline constexpr auto kOperationLabel = gopher::enum_label("operation", kOperations);
inline constexpr auto kClassLabel = gopher::enum_label("class", kClasses);

inline constexpr auto kMetrics = gopher::metric_table(
    "io",
    {
        {.name = "gopher_io_request_duration_seconds",
         .help = "Time from the making of a block request to its completion.",
         .labels = {kDeviceLabel, kOperationLabel, kClassLabel},
         .bounds = kTimeBounds.data(),
         .kind = GOPHER_HISTOGRAM,
         .n_bounds = kTimeBounds.size()},
        {.name = "gopher_io_request_stage_seconds",
         .help = "Parts of that time: in the queue, in the device, in the driver after the device "
                 "was done.",
         .labels = {kDeviceLabel, kOperationLabel, gopher::enum_label("stage", kStages)},
         .bounds = kTimeBounds.data(),
         .kind = GOPHER_HISTOGRAM,
         .n_bounds = kTimeBounds.size()},
        {.name = "gopher_io_requests_total",
         .help = "Completed block requests, failed ones included.",
         .labels = {kDeviceLabel, kOperationLabel, kClassLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_bytes_total",
         .help = "Bytes of completed block requests.",
         .labels = {kDeviceLabel, kOperationLabel, kClassLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_request_size_bytes",
         .help = "Size of the block requests that carried data.",
         .labels = {kDeviceLabel, kOperationLabel},
         .bounds = kSizeBounds.data(),
         .kind = GOPHER_HISTOGRAM,
         .n_bounds = kSizeBounds.size()},
        {.name = "gopher_io_sequential_requests_total",
         .help = "Reads and writes that began where the one that completed before had ended.",
         .labels = {kDeviceLabel, kOperationLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_untimed_requests_total",
         .help = "Requests without a start time (iostats is off): counted, but in no histogram.",
         .labels = {kDeviceLabel, kOperationLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_errors_total",
         .help = "Block requests that failed.",
         .labels = {kDeviceLabel, kOperationLabel, gopher::label("errno", GOPHER_ERRNO)},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_in_flight",
         .help = "Requests in flight at the moment of the measurement.",
         .labels = {kDeviceLabel},
         .kind = GOPHER_GAUGE},
        {.name = "gopher_io_oldest_request_seconds",
         .help = "Age of the request that was in flight the longest at that moment.",
         .labels = {kDeviceLabel},
         .kind = GOPHER_GAUGE},
        {.name = "gopher_io_process_requests_total",
         .help = "Completed block requests by the process that submitted them.",
         .labels = {kProcessLabel, kDeviceLabel, kOperationLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_process_bytes_total",
         .help = "Bytes of block requests by the process that submitted them; what kernel workers "
                 "write back is writeback's.",
         .labels = {kProcessLabel, kDeviceLabel, kOperationLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_process_duration_seconds",
         .help = "Time of block requests by the process that submitted them.",
         .labels = {kProcessLabel, kDeviceLabel, kOperationLabel},
         .bounds = kProcessBounds.data(),
         .kind = GOPHER_HISTOGRAM,
         .n_bounds = kProcessBounds.size()},
        {.name = "gopher_io_process_dirtied_bytes_total",
         .help = "Bytes of page cache by the process that dirtied them, to be written back later.",
         .labels = {kProcessLabel, kDeviceLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_page_cache_added_bytes_total",
         .help = "Bytes added to the page cache, read or to be written, by file system device.",
         .labels = {kDeviceLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_page_cache_dirtied_bytes_total",
         .help = "Bytes of page cache that became dirty, whole pages.",
         .labels = {kDeviceLabel},
         .kind = GOPHER_COUNTER},
        {.name = "gopher_io_page_cache_written_bytes_total",
         .help = "Bytes of page cache that the flusher and sync wrote back; what fsync writes is "
                 "in its process's requests only.",
         .labels = {kDeviceLabel},
         .kind = GOPHER_COUNTER},
    });

// What every event of one request carries.
#define IO_REQUEST_FIELDS                                                                        \
  gopher::field("device", GOPHER_DEV, "The disk."),                                              \
      gopher::field("partition", GOPHER_DEV, "The partition, or the disk again."),               \
      gopher::enum_field("operation", kOperations, "What was asked for."),                       \
      gopher::enum_field("class", kClasses, "How urgent it was, or metadata."),                  \
      gopher::field("sector", GOPHER_U64, "Where it began, in units of 512 bytes on the disk."), \
      gopher::field("bytes", GOPHER_BYTES, "Its size."),                                         \
      gopher::field("duration_seconds", GOPHER_NS, "From its making until now; 0 if not known.")
#define IO_STAGE_FIELDS                                                                  \
  gopher::field("queue_seconds", GOPHER_NS, "Time in the queue; 0 if not known."),       \
      gopher::field("device_seconds", GOPHER_NS, "Time in the device; 0 if not known."), \
      gopher::field("driver_seconds", GOPHER_NS, "Time in the driver afterwards; 0 if not known.")

inline constexpr auto kEvents = gopher::event_table(
    "io", {
              {.name = "io_error",
               .help = "A block request failed.",
               .fields = {IO_REQUEST_FIELDS, IO_STAGE_FIELDS,
                          gopher::field("errno", GOPHER_ERRNO, "Why.")},
               .severity = GOPHER_ERROR},
              {.name = "slow_request",
               .help = "A block request took longer than slow_ms.",
               .fields = {IO_REQUEST_FIELDS, IO_STAGE_FIELDS},
               .severity = GOPHER_WARNING},
              {.name = "stuck_request",
               .help = "A block request is in flight for longer than stuck_s.",
               .fields = {IO_REQUEST_FIELDS},
               .severity = GOPHER_ERROR},
              {.name = "stuck_request_ended",
               .help = "A block request that was reported as stuck has completed.",
               .fields = {IO_REQUEST_FIELDS, IO_STAGE_FIELDS,
                          gopher::field("errno", GOPHER_ERRNO, "How it ended; 0: well.")},
               .severity = GOPHER_INFO},
          });
#undef IO_REQUEST_FIELDS
#undef IO_STAGE_FIELDS

// Under tp_btf a field is a plain load, under raw_tp a helper call: the same numbers, dearer.
inline constexpr auto kHooks = gopher::hook_table({
    {.name = "complete",
     .help = "Latencies, bytes, sizes and errors of requests.",
     .programs = {"complete__tp_btf", "complete__raw_tp"},
     .required = 1},
    // block_io_start is there from 6.5 on; the function that it stands in is older, but inlined on
    // many kernels. Where neither is, the next three hooks stand in.
    {.name = "start",
     .help = "Who caused a request, requests in flight.",
     .programs = {"start__tp_btf", "start__raw_tp", "start__fentry", "start__kprobe"}},
    {.name = "getrq",
     .help = "Who caused a flush or a write that must reach the medium, where `start` is missing.",
     .programs = {"getrq__tp_btf", "getrq__raw_tp"}},
    {.name = "insert",
     .help = "Who caused a request that goes through a scheduler, where `start` is missing.",
     .programs = {"insert__tp_btf", "insert__raw_tp"}},
    {.name = "issue",
     .help = "Who caused a request that is issued at once, where `start` is missing; when a "
             "request was issued, where the kernel does not note it.",
     .programs = {"issue__tp_btf", "issue__raw_tp"}},
    {.name = "merge",
     .help = "Requests that another one absorbed: without it they would seem to be stuck.",
     .programs = {"merge__tp_btf", "merge__raw_tp"}},
    {.name = "bio_queue",
     .help = "Start of I/O on devices that have no requests (dm, md, zram).",
     .programs = {"bio_queue__tp_btf", "bio_queue__raw_tp"}},
    {.name = "bio_complete",
     .help = "End of I/O on devices that have no requests.",
     .programs = {"bio_complete__tp_btf", "bio_complete__raw_tp"}},
    {.name = "nvme",
     .help = "When the NVMe driver saw that its device is done.",
     .programs = {"nvme__tp_btf", "nvme__raw_tp"}},
    {.name = "scsi",
     .help = "When the SCSI layer saw that its device is done.",
     .programs = {"scsi__tp_btf", "scsi__raw_tp"}},
    {.name = "add",
     .help = "Bytes added to the page cache.",
     .programs = {"add__tp_btf", "add__raw_tp"}},
    // The tracepoint took a page and had another name until 5.18 (203a31516616).
    {.name = "dirty",
     .help = "Bytes dirtied in the page cache, and by whom.",
     .programs = {"dirty__tp_btf", "dirty__tp_btf_page", "dirty__raw_tp", "dirty__raw_tp_page"}},
    {.name = "written",
     .help = "Bytes written back from the page cache.",
     .programs = {"written__tp_btf", "written__raw_tp"}},
});

}  // namespace io
