// fuzz_kafka_properties.cpp - any lines as `kafka.properties`: taken, or refused with a sentence.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>

#include "export/kafka_producer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gopher;
  KafkaOptions options = {};
  options.brokers = "127.0.0.1:1";
  options.metrics_topic = options.events_topic = options.metadata_topic = "t";
  options.metrics_interval_s = options.metadata_interval_s = 10;
  KafkaSettings settings(options);
  std::string line;
  for (size_t i = 0; i < size; ++i) {
    if (data[i] == '\n') {
      settings.properties.push_back(line);
      line.clear();
    } else if (data[i] != 0) {  // a C string of libconfig's has none
      line += static_cast<char>(data[i]);
    }
  }
  // Only the list is judged: a producer would start threads, and load plugins and certificates.
  auto r = check_kafka_properties(settings);
  if (!r && (r.error().text.empty() || r.error().text.find("properties[") != 0)) abort();
  return 0;
}
