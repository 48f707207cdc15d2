// export_schema_test.cpp - what is printed from the tables is complete, valid, and says the truth.
// SPDX-License-Identifier: Apache-2.0
#include "export/schema.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "bus/store.hpp"
#include "config/config.hpp"
#include "export/json.hpp"
#include "export/records.hpp"
#include "export_fixture.hpp"

namespace gopher {
namespace {

using test::kProbe;
using test::TempDir;
using ::testing::HasSubstr;

constexpr double kOwnBounds[] = {0.5, 1};
constexpr gopher_metric kOwn[] = {
    {.name = "gopher_lost_total",
     .help = "What was lost.",
     .labels = {label("probe", GOPHER_STR), label("stage", GOPHER_STR)},
     .kind = GOPHER_COUNTER,
     .n_labels = 2},
    {.name = "gopher_turn_seconds",
     .help = "Time of a turn.",
     .bounds = kOwnBounds,
     .kind = GOPHER_HISTOGRAM,
     .n_bounds = 2}};

Catalog catalog() { return {kProbe}; }

TEST(SchemaConfTest, ParsesToTheDefaults) {
  TempDir dir;
  const std::string file = dir / "gopher.conf";
  std::ofstream(file) << schema_conf(catalog());
  const ProbeOptions probe = {kProbe.name, kProbe.options, sizeof(test::DiskOptions)};
  ConfigResult full = load_config(file, {&probe, 1});
  EXPECT_THAT(full.errors, ::testing::IsEmpty());
  ASSERT_TRUE(full.config);
  std::ofstream(dir / "empty.conf") << "";
  ConfigResult empty = load_config(dir / "empty.conf", {&probe, 1});
  ASSERT_TRUE(empty.config);
  for (const char* group : {"daemon", "prometheus", "kafka", "history", "filter", "probes.disk"})
    EXPECT_EQ(full.config->text(group), empty.config->text(group)) << group;
  EXPECT_TRUE(full.config->probe_enabled("disk"));
  EXPECT_FALSE(empty.config->probe_enabled("disk"));
  // Every option was really there, and not only left at its default.
  for (const OptionGroupInfo& group : option_groups(catalog()))
    for (const gopher_option& o : group.options)
      EXPECT_NE(full.config->place(group.name + "." + o.name), file) << group.name << o.name;
}

TEST(SchemaConfTest, NoLineIsTooLong) {
  std::istringstream in(schema_conf(catalog()));
  for (std::string line; std::getline(in, line);) EXPECT_LE(line.size(), 100u) << line;
}

TEST(SchemaMarkdownTest, EverythingStandsThere) {
  const std::string metrics = schema_markdown(catalog(), kOwn, "metrics");
  for (const gopher_metric& m : kProbe.metrics) {
    EXPECT_THAT(metrics, HasSubstr("### `" + std::string(m.name) + "`"));
    EXPECT_THAT(metrics, HasSubstr(m.help));
  }
  EXPECT_THAT(metrics, HasSubstr("`pid`, `comm`, `cgroup`: process"));
  EXPECT_THAT(metrics, HasSubstr("one of \"read\", \"write\""));
  EXPECT_THAT(metrics, HasSubstr("0.001, 0.01, 0.1, 1"));
  EXPECT_THAT(metrics, HasSubstr("`gopher_turn_seconds`"));
  EXPECT_THAT(metrics, HasSubstr("`submit__tp_btf`, `submit__raw_tp`"));
  const std::string events = schema_markdown(catalog(), kOwn, "events");
  for (const gopher_event& e : kProbe.events) {
    EXPECT_THAT(events, HasSubstr("## `" + std::string(e.name) + "`"));
    for (uint32_t i = 0; i < e.n_fields; ++i)
      EXPECT_THAT(events, HasSubstr("| `" + std::string(e.fields[i].name) + "` |"));
  }
  const std::string config = schema_markdown(catalog(), kOwn, "config");
  for (const OptionGroupInfo& group : option_groups(catalog())) {
    EXPECT_THAT(config, HasSubstr("## `" + group.name + "`"));
    for (const gopher_option& o : group.options)
      EXPECT_THAT(config, HasSubstr("| `" + std::string(o.name) + "` | `" + o.default_value));
  }
  EXPECT_EQ(schema_markdown(catalog(), kOwn, "other"), "");
}

// Records as they are sent, and broken ones, judged by an independent validator.
class SchemaJsonTest : public ::testing::Test {
 protected:
  class Text : public TextSource {
    void append(gopher_type type, const gopher_value& v, std::string* out) const override {
      *out += "\xff\"" + std::to_string(type) + ":" + std::to_string(v.num);
    }
  };

  void expect(bool valid, const char* kind, const std::string& record) {
    cases_ += std::string(valid ? "1" : "0") + kind + " " + record + "\n";
    ++n_;
  }
  void replaced(const char* kind, std::string record, const std::string& what,
                const std::string& with) {
    const size_t at = record.find(what);
    ASSERT_NE(at, std::string::npos) << what << " in " << record;
    expect(false, kind, record.replace(at, what.size(), with));
  }

  // "" or what the validator found wrong.
  std::string judge() {
    TempDir dir;
    std::ofstream(dir / "schema.json") << schema_json(catalog(), kOwn);
    std::ofstream(dir / "cases") << cases_;
    std::ofstream(dir / "judge.py") << R"(
import json, sys
from jsonschema import Draft202012Validator
folder = sys.argv[1]
schema = json.load(open(folder + "/schema.json"))
Draft202012Validator.check_schema(schema)
n = 0
for line in open(folder + "/cases", encoding="utf-8", errors="strict"):
    kind, record = line[1:].split(" ", 1)
    record = json.loads(record, parse_constant=lambda c: 1 / 0)
    one = dict(schema, oneOf=[{"$ref": "#/$defs/" + kind}])
    for s in (schema, one):
        errors = [e.message for e in Draft202012Validator(s).iter_errors(record)]
        if (not errors) != (line[0] == "1"):
            print(line[:300], errors[:2])
    n += 1
print("judged", n)
)";
    const std::string command =
        "/usr/bin/python3 " + (dir / "judge.py") + " " + dir.path() + " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    std::string out;
    std::array<char, 4096> buffer;
    for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
      out.append(buffer.data(), n);
    pclose(pipe);
    return out == "judged " + std::to_string(n_) + "\n" ? "" : out;
  }

  std::string cases_;
  int n_ = 0;
};

TEST_F(SchemaJsonTest, Events) {
  EventJson json("node");
  Event e = test::full(1);
  const std::string full = json(e);
  expect(true, "event", full);
  expect(true, "event", json(test::note(2)));
  e.process->comm = "\xff\x01\"\\";
  e.fields[0] = std::string("unknown");
  e.fields[5] = std::nan("");
  e.process->start_ns = 77;
  expect(true, "event", json(e));
  e.process.reset();
  e.recovers.reset();
  e.correlation = 0;
  expect(true, "event", json(e));
  replaced("event", full, "\"disk_error\"", "\"disk_panic\"");
  replaced("event", full, "\"folded\":3", "\"folded\":-1");
  replaced("event", full, "\"folded\":3", "\"folded\":3.5");
  replaced("event", full, "\"folded\":3,", "");
  replaced("event", full, "\"folded\":3", "\"folded\":3,\"more\":1");
  replaced("event", full, "\"sync\":true", "\"sync\":1");
  replaced("event", full, "\"sync\":true", "\"sync\":true,\"more\":1");
  replaced("event", full, "\"sync\":true,", "");
  replaced("event", full, "\"size\":4096", "\"size\":\"4096\"");
  replaced("event", full, "\"operation\":\"write\"", "\"operation\":\"erase\"");
  replaced("event", full, "18446744073709551615", "18446744073709551616");
  replaced("event", full, "\"id\":\"0", "\"id\":\"9");
  replaced("event", full, "Z\",\"type\"", "\",\"type\"");
  EXPECT_EQ(judge(), "");
}

TEST_F(SchemaJsonTest, Metrics) {
  Text text;
  Store store({}, text);
  Shard& shard = store.shard(kProbe);
  gopher_process process = {
      .tgid = 5, .reserved = 0, .start_ns = 6, .cgroup_id = 7, .comm = "a\"b\\c\n\xff"};
  gopher_value labels[2] = {};
  for (uint32_t i = 0; i < 1200; ++i) {
    labels[0].num = i;
    labels[1].num = i % 2;
    shard.apply({.labels = labels, .value = 1.5 * i, .metric = 0, .op = GOPHER_ADD}, 1);
  }
  labels[0].process = &process;
  shard.apply({.labels = labels, .value = -INFINITY, .metric = 1, .op = GOPHER_SET}, 1);
  labels[0] = {};
  const uint64_t buckets[5] = {1, 0, ~uint64_t{0} >> 1, 2, 3};
  shard.apply({.labels = labels, .buckets = buckets, .sum = 0.25, .metric = 2, .op = GOPHER_ADD},
              1);
  shard.apply({.value = 1, .metric = 3, .op = GOPHER_SET}, 1);

  std::vector<MetricsRecord> records;
  MetricsJson json({.node = "node", .id = to_string(gopher_event_id{1, 2}), .time_ns = 3});
  Store::Cursor cursor(store);
  for (Chunk chunk; cursor.next(&chunk);) json.append(chunk, true, &records);
  prometheus::MetricFamily counter{.name = "gopher_lost_total",
                                   .help = "",
                                   .type = prometheus::MetricType::Counter,
                                   .metric = {}};
  counter.metric.resize(1);
  counter.metric[0].label = {{"probe", "disk"}, {"stage", "ring"}};
  counter.metric[0].counter.value = 9;
  json.append(counter, &records);
  prometheus::MetricFamily histogram{.name = "gopher_turn_seconds",
                                     .help = "",
                                     .type = prometheus::MetricType::Histogram,
                                     .metric = {}};
  histogram.metric.resize(1);
  histogram.metric[0].histogram = {
      .sample_count = 6, .sample_sum = 4.5, .bucket = {{1, 0.5}, {3, 1}, {6, INFINITY}}};
  json.append(histogram, &records);

  ASSERT_EQ(records.size(), 3 + 3 + 2u);
  for (const MetricsRecord& r : records) expect(true, "metrics", r.json);
  EXPECT_THAT(records[5].metric, "gopher_disk_up");
  EXPECT_THAT(
      records[4].json,
      HasSubstr(
          "\"buckets\":[1,0,9223372036854775807,2,3],\"count\":9223372036854775813,\"sum\":0.25"));
  EXPECT_THAT(records[3].json, HasSubstr("\"pid\":\"5\",\"comm\":\"a\\\"b\\\\c"));
  EXPECT_THAT(records[3].json, HasSubstr("\"value\":null"));
  EXPECT_THAT(records[2].json, HasSubstr("\"part\":2"));
  EXPECT_THAT(records[7].json, HasSubstr("\"bounds\":[0.5,1],\"series\":[{\"labels\":{},"
                                         "\"buckets\":[1,2,3],\"count\":6,\"sum\":4.5}]"));
  replaced("metrics", records[4].json, "\"bounds\":[0.001,", "\"bounds\":[");
  replaced("metrics", records[4].json, "\"buckets\":[1,", "\"buckets\":[");
  replaced("metrics", records[4].json, "\"kind\":\"histogram\"", "\"kind\":\"counter\"");
  replaced("metrics", records[0].json, "\"operation\":", "\"op\":");
  replaced("metrics", records[0].json, "\"series\"", "\"bounds\":[],\"series\"");
  replaced("metrics", records[6].json, "\"metric\":\"gopher_lost_total\"",
           "\"metric\":\"gopher_won_total\"");
  EXPECT_EQ(judge(), "");
}

TEST_F(SchemaJsonTest, Metadata) {
  const std::string schema = schema_json(catalog(), kOwn, true);
  const std::string record = metadata_json(
      this_node("node", "0.1.0"),
      {{.name = "disk",
        .version = "1.2",
        .state = "degraded",
        .reason = "no \xff hook",
        .hooks = {{"complete", "complete__tp_btf"}, {"submit", ""}}},
       {.name = "net", .version = "1", .state = "running", .reason = "", .hooks = {}}},
      schema, 1);
  expect(true, "metadata", record);
  EXPECT_THAT(
      record,
      HasSubstr("{\"name\":\"complete\",\"program\":\"complete__tp_btf\",\"rung\":\"tp_btf\"}"));
  EXPECT_THAT(record, HasSubstr("{\"name\":\"submit\",\"program\":null,\"rung\":null}"));
  replaced("metadata", record, "\"degraded\"", "\"dizzy\"");
  replaced("metadata", record, "\"arch\"", "\"bow\"");
  EXPECT_EQ(judge(), "");
}

}  // namespace
}  // namespace gopher
