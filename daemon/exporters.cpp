// exporters.cpp - everything that carries numbers and events out.
// SPDX-License-Identifier: Apache-2.0
#include "exporters.hpp"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "core/clock.hpp"
#include "core/log.hpp"
#include "export/schema.hpp"
#include "http/pages.hpp"

namespace gopher {
namespace {

constexpr uint64_t kFirstRetryNs = 1'000'000'000, kLastRetryNs = 30'000'000'000;
constexpr uint64_t kMainLoopLateNs = 15'000'000'000;

HistoryLimits history_limits(const HistoryOptions& o) {
  return {.max_age_ns = static_cast<uint64_t>(o.max_age_h) * 3600 * 1'000'000'000,
          .max_bytes = static_cast<uint64_t>(o.max_mib) << 20};
}

http::ServerOptions server_options(const PrometheusOptions& o) {
  http::ServerOptions s;
  s.threads = static_cast<unsigned>(o.threads);
  s.connections = static_cast<unsigned>(o.connections);
  s.idle_s = static_cast<unsigned>(o.timeout_s);
  return s;
}

std::vector<ProbeInfo> probe_infos(const PluginHost& host) {
  std::vector<ProbeInfo> out;
  for (const auto& s : host.status()) {
    ProbeInfo p = {.name = s.name,
                   .version = s.version,
                   .state = to_string(s.state),
                   .reason = s.reason,
                   .hooks = {}};
    for (const HookStatus& h : s.hooks)
      if (h.wanted) p.hooks.push_back({.name = h.hook, .program = h.program});
    out.push_back(std::move(p));
  }
  return out;
}

std::vector<ProbeSnapshot> probe_snapshots(const PluginHost& host) {
  std::vector<ProbeSnapshot> out;
  for (const auto& s : host.status()) {
    ProbeSnapshot p = {.name = s.name,
                       .version = s.version,
                       .state = to_string(s.state),
                       .reason = s.reason,
                       .hooks = {},
                       .lost = s.lost,
                       .cpu_ns = s.cpu_ns,
                       .map_bytes = s.map_bytes,
                       .starts = s.starts,
                       .ring_records = s.ring_records,
                       .events = {}};
    for (const HookStatus& h : s.hooks)
      if (h.wanted) p.hooks.push_back({h.hook, h.program});
    for (size_t i = 0; i < s.events.size(); ++i) {
      const EventGate::Counts& c = s.events[i];
      p.events.push_back({s.tables->events[i].name, c.produced, c.sent, c.folded, c.dropped});
    }
    out.push_back(std::move(p));
  }
  return out;
}

HistorySnapshot snapshot_of(const History::Stats& s) {
  return {.stored = s.stored,
          .pruned = s.pruned,
          .lost = s.lost,
          .errors = s.write_errors,
          .pending = s.pending,
          .bytes = s.bytes,
          .failing = s.failing};
}

KafkaSnapshot snapshot_of(const KafkaExporter::Stats& s) {
  return {.connected = s.connected,
          .events = s.events,
          .snapshots = s.snapshots,
          .metadata = s.metadata,
          .snapshots_due = s.snapshots_due,
          .lost = s.lost(),
          .errors = s.errors,
          .lag = s.lag,
          .queued = s.queued};
}

}  // namespace

std::vector<std::string> check_exporters(const Config& config) {
  if (!config.kafka().enabled) return {};
  auto r = check_kafka(KafkaSettings(config.kafka()));
  if (r) return {};
  return {config.place("kafka.properties") + ": `kafka` " + r.error().text};
}

struct Exporters::State {
  State(const std::string& node_, const Store& store_, EventQueue& queue_, const PluginHost& host_)
      : node(node_), store(store_), queue(queue_), host(host_) {}

  void open_http(uint64_t now_ns);
  void close_http();
  void open_kafka();
  void close_kafka();
  std::shared_ptr<KafkaExporter> kafka() const {
    std::lock_guard lock(kafka_mutex);
    return kafka_;
  }
  std::optional<std::string> illness() const;
  SnapshotSources sources() const;

  const std::string node;
  const Store& store;
  EventQueue& queue;
  const PluginHost& host;
  std::string schema;
  std::shared_ptr<const Config> config;
  std::unique_ptr<History> history;
  std::unique_ptr<Instrumentation> own;
  std::atomic<uint64_t> last_tick_ns{0};

  mutable std::mutex server_mutex;  // a scrape asks the server about itself
  std::unique_ptr<http::Server> server;
  uint64_t next_listen_ns = 0, listen_backoff_ns = 0;  // 0: nothing to retry

  mutable std::mutex kafka_mutex;  // scrapes look at it while a reload replaces it
  std::shared_ptr<KafkaExporter> kafka_;
};

// What only a restart of gopherd or a person can mend; a failed probe is not it.
std::optional<std::string> Exporters::State::illness() const {
  const uint64_t late = monotonic_ns() - last_tick_ns.load();
  if (late > kMainLoopLateNs && last_tick_ns) return "the main loop does not turn";
  if (history->stats().failing) return "the local event store cannot be written";
  return std::nullopt;
}

SnapshotSources Exporters::State::sources() const {
  return {.probes = [this] { return probe_snapshots(host); },
          .event_queue = [this] { return queue.size(); },
          .history = [this] { return std::optional(snapshot_of(history->stats())); },
          .kafka = [this]() -> std::optional<KafkaSnapshot> {
            auto k = kafka();
            if (!k) return std::nullopt;
            return snapshot_of(k->stats());
          },
          .http = [this]() -> std::optional<HttpSnapshot> {
            std::lock_guard lock(server_mutex);
            if (!server) return std::nullopt;
            const auto c = server->connections();
            return HttpSnapshot{.open = c.open,
                                .accepted = c.accepted,
                                .refused = c.refused,
                                .evicted = c.evicted,
                                .cut = c.cut};
          }};
}

void Exporters::State::open_http(uint64_t now_ns) {
  const PrometheusOptions& o = config->prometheus();
  std::vector<const prometheus::Collectable*> collectables = {own.get()};
  auto start = [&]() -> Result<std::unique_ptr<http::Server>> {
    auto listener = http::Listener::open(o.listen);
    if (!listener) return std::move(listener).error();
    return http::Server::start(
        *std::move(listener), server_options(o),
        {http::metrics_route(store, collectables, [this](double s) { own->observe_scrape(s); }),
         http::health_route([this] { return illness(); }), http::index_route(GOPHER_VERSION)});
  };
  auto r = start();
  if (r) {
    log::write(log::kInfo, "serving http://%s/metrics", (*r)->address().c_str());
    listen_backoff_ns = 0;
    std::lock_guard lock(server_mutex);
    server = *std::move(r);
    return;
  }
  const bool first = listen_backoff_ns == 0;
  listen_backoff_ns = std::clamp(listen_backoff_ns * 2, kFirstRetryNs, kLastRetryNs);
  next_listen_ns = now_ns + listen_backoff_ns;
  log::write(first ? log::kError : log::kDebug, "no metrics are served yet: %s; trying again",
             r.error().text.c_str());
}

// Ended outside of the lock: it waits for scrapes that may want the lock.
void Exporters::State::close_http() {
  std::unique_ptr<http::Server> old;
  {
    std::lock_guard lock(server_mutex);
    old = std::move(server);
  }
  listen_backoff_ns = 0;
}

void Exporters::State::open_kafka() {
  auto r = KafkaExporter::start(KafkaSettings(config->kafka()),
                                KafkaSources{.history = *history,
                                             .store = store,
                                             .own = {own.get()},
                                             .node = this_node(node, GOPHER_VERSION),
                                             .probes = [this] { return probe_infos(host); },
                                             .schema = schema});
  if (!r) {
    log::write(log::kError, "Kafka: %s; nothing is sent until the configuration is changed",
               r.error().text.c_str());
    return;
  }
  std::lock_guard lock(kafka_mutex);
  kafka_ = *std::move(r);
}

void Exporters::State::close_kafka() {
  std::shared_ptr<KafkaExporter> old;
  {
    std::lock_guard lock(kafka_mutex);
    old = std::exchange(kafka_, nullptr);
  }
  if (old) old->stop();
}

Exporters::Exporters(std::unique_ptr<State> state) : state_(std::move(state)) {}
Exporters::~Exporters() = default;

Result<std::unique_ptr<Exporters>> Exporters::open(const std::string& state_dir,
                                                   const std::string& node, const Store& store,
                                                   EventQueue& queue, const PluginHost& host,
                                                   const Config& config) {
  auto state = std::make_unique<State>(node, store, queue, host);
  auto history = History::open(state_dir, node, queue, history_limits(config.history()));
  if (!history) return std::move(history).error();
  state->history = *std::move(history);
  Catalog catalog;
  for (const auto& s : host.status()) catalog.push_back(*s.tables);
  state->schema = schema_json(catalog, own_metrics(), true);
  state->own = std::make_unique<Instrumentation>(GOPHER_VERSION, store, state->sources());
  return std::unique_ptr<Exporters>(new Exporters(std::move(state)));
}

void Exporters::apply(std::shared_ptr<const Config> config) {
  State& s = *state_;
  const std::shared_ptr<const Config> old = std::exchange(s.config, std::move(config));
  auto differs = [&](const char* group) {
    return !old || old->text(group) != s.config->text(group);
  };
  if (differs("history")) s.history->set_limits(history_limits(s.config->history()));
  if (differs("prometheus")) {
    s.close_http();
    if (s.config->prometheus().enabled) s.open_http(monotonic_ns());
  }
  if (differs("kafka")) {
    s.close_kafka();
    if (s.config->kafka().enabled) s.open_kafka();
  }
}

void Exporters::tick(uint64_t now_ns) {
  state_->last_tick_ns = now_ns;
  if (state_->listen_backoff_ns && now_ns >= state_->next_listen_ns) state_->open_http(now_ns);
}

void Exporters::stop() {
  state_->history->stop();  // first: Kafka sends what it stores
  state_->close_kafka();
  state_->close_http();
}

}  // namespace gopher
