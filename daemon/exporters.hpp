// exporters.hpp - everything that carries numbers and events out: history, Kafka, HTTP.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gopher/result.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bus/events.hpp"
#include "bus/instrumentation.hpp"
#include "bus/store.hpp"
#include "config/config.hpp"
#include "export/history.hpp"
#include "export/kafka.hpp"
#include "http/server.hpp"
#include "plugin/host.hpp"

namespace gopher {

// "FILE:LINE: sentence" for what only an exporter can judge (librdkafka's properties).
std::vector<std::string> check_exporters(const Config& config);

// Used by the main thread.
class Exporters {
 public:
  // Opens the local event store: without it there is nowhere to put events, so that is fatal. The
  // rest may come and go while the daemon runs.
  static Result<std::unique_ptr<Exporters>> open(const std::string& state_dir,
                                                 const std::string& node, const Store& store,
                                                 EventQueue& queue, const PluginHost& host,
                                                 const Config& config);
  ~Exporters();

  // Brings what runs in line with this configuration.
  void apply(std::shared_ptr<const Config> config);
  void tick(uint64_t now_ns);  // about once a second: retries
  // Stores what is queued, gives Kafka a bounded time for the rest, closes the listener.
  void stop();

 private:
  struct State;
  explicit Exporters(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gopher
