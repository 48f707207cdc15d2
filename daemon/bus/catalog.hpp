// catalog.hpp - the tables of all probes, as the rest of the daemon sees them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/probe.h>

#include <span>
#include <string_view>
#include <vector>

namespace gopher {

// A view of one plugin's static tables; valid as long as the plugin stays loaded (to the exit).
struct ProbeTables {
  std::string_view name, version, summary;
  std::span<const gopher_option> options;
  std::span<const gopher_metric> metrics;
  std::span<const gopher_event> events;
  std::span<const gopher_hook> hooks;
};

inline ProbeTables tables_of(const gopher_probe_ops& ops) {
  return {.name = ops.name,
          .version = ops.version,
          .summary = ops.summary,
          .options = {ops.options, ops.n_options},
          .metrics = {ops.metrics, ops.n_metrics},
          .events = {ops.events, ops.n_events},
          .hooks = {ops.hooks, ops.n_hooks}};
}

// All probes in the order of their names.
using Catalog = std::vector<ProbeTables>;

}  // namespace gopher
