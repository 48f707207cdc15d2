// export_json_test.cpp - numbers keep every bit, text is valid whatever it was, one envelope.
// SPDX-License-Identifier: Apache-2.0
#include "export/json.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "export_fixture.hpp"

namespace gopher {
namespace {

using test::full;
using test::note;

TEST(Utf8Test, ValidTextIsKept) {
  for (const char* text :
       {"", "plain", "\x01\x1f\x7f", "äöü€", "𝄞 \xf4\x8f\xbf\xbf", "\xef\xbf\xbd"})
    EXPECT_EQ(to_utf8(text), text);
}

TEST(Utf8Test, WhatIsNoTextIsReplaced) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(to_utf8("a\xff"
                    "b"),
            "a" + r + "b");
  EXPECT_EQ(to_utf8("\xc3"), r);                          // cut off
  EXPECT_EQ(to_utf8("\xe2\x82"), r + r);                  // cut off
  EXPECT_EQ(to_utf8("\xc0\xaf"), r + r);                  // "/" in too many bytes
  EXPECT_EQ(to_utf8("\xe0\x80\xaf"), r + r + r);          // the same
  EXPECT_EQ(to_utf8("\xed\xa0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(to_utf8("\xf4\x90\x80\x80"), r + r + r + r);  // beyond Unicode
  EXPECT_EQ(to_utf8("\xf8\x88\x80\x80\x80"), r + r + r + r + r);
  EXPECT_EQ(to_utf8("\x80"), r);
  EXPECT_EQ(to_utf8(std::string_view("a\0b", 3)), "a" + r + "b");
  EXPECT_EQ(to_utf8("\xe2\x28\xa1"), r + "(" + r);  // resumes at the next character
}

TEST(Utf8Test, RandomBytesBecomeValidText) {
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 2 ? random() : 0x80 | random() % 128);
    const std::string once = to_utf8(bytes);
    EXPECT_EQ(to_utf8(once), once);
  }
}

TEST(Rfc3339Test, Digits) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(rfc3339(1'700'000'000'123'456'789u), "2023-11-14T22:13:20.123456789Z");
  EXPECT_EQ(rfc3339(1'700'000'000'023'456'789u, 3), "2023-11-14T22:13:20.023Z");
  EXPECT_EQ(rfc3339(1'700'000'000'923'456'789u, 0), "2023-11-14T22:13:20Z");
}

TEST(JsonTest, IntegersKeepEveryDigit) {
  EXPECT_EQ(Json::integer(std::numeric_limits<uint64_t>::max()).print(), "18446744073709551615");
  EXPECT_EQ(Json::integer(std::numeric_limits<int64_t>::min()).print(), "-9223372036854775808");
  EXPECT_EQ(Json::integer((uint64_t{1} << 53) + 1).print(), "9007199254740993");
  EXPECT_EQ(Json::integer(uint64_t{0}).print(), "0");
}

TEST(JsonTest, DoublesReadBackToTheSameBits) {
  std::mt19937_64 random(5);
  std::vector<double> values = {0.0,       -0.0,
                                0.1,       1e300,
                                5e-324,    1.0,
                                1e21,      123456789012345678.0,
                                0.1 + 0.2, 9007199254740991.0};
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t bits = random();
    double v;
    std::memcpy(&v, &bits, sizeof v);
    if (std::isfinite(v)) values.push_back(v);
  }
  for (double v : values) {
    const std::string text = Json::number(v).print();
    EXPECT_EQ(std::strtod(text.c_str(), nullptr), v) << text;
    EXPECT_EQ(text.find_first_not_of("0123456789.e+-"), std::string::npos) << text;
  }
  EXPECT_EQ(Json::number(std::nan("")).print(), "null");
  EXPECT_EQ(Json::number(-std::numeric_limits<double>::infinity()).print(), "null");
}

TEST(JsonTest, ValuesNest) {
  Json list = Json::array();
  list.push(Json::boolean(true)).push(Json::null()).push(Json::string("a\"\\\n"));
  Json object = Json::object();
  object.set("list", std::move(list)).set("k\xff", Json::object());
  EXPECT_EQ(object.print(), "{\"list\":[true,null,\"a\\\"\\\\\\n\"],\"k\xef\xbf\xbd\":{}}");
}

TEST(EventJsonTest, TheWholeEnvelope) {
  Event e = full(9);
  e.id = {0x0123456789abcdefu, 0xfedcba9876543210u};
  e.time_ns = 1'700'000'000'123'456'789u;
  e.process->start_ns = 0;
  e.process->cgroup = "/a";
  EXPECT_EQ(EventJson("node1")(e),
            "{\"id\":\"014D2PF2DBSQQZXQ5TK1V58CGG\",\"time\":\"2023-11-14T22:13:20.123456789Z\","
            "\"type\":\"disk_error\",\"severity\":\"error\",\"probe\":\"disk\",\"node\":\"node1\","
            "\"process\":{\"pid\":1,\"comm\":\"worker\",\"cgroup\":\"/a\"},"
            "\"correlation\":\"fedcba9876543210\",\"recovers\":\"0000000000000G000000000002\","
            "\"folded\":3,\"fields\":{\"operation\":\"write\",\"device\":\"sda1\",\"size\":4096,"
            "\"sector\":18446744073709551615,\"delta\":-9223372036854775808,\"share\":0.1,"
            "\"sync\":true,\"name\":\"text\",\"error\":\"EIO\",\"duration\":1.23456789,"
            "\"submitter\":{\"pid\":7,\"comm\":\"x\"},\"peer\":\"::1\","
            "\"cgroup\":\"/system.slice\"}}");
}

TEST(EventJsonTest, WhatIsUnknownIsLeftOut) {
  Event e = note(1);
  e.process.reset();
  const std::string text = EventJson("n")(e);
  EXPECT_THAT(text, ::testing::HasSubstr("\"folded\":0,\"fields\":{}"));
  for (const char* name : {"process", "correlation", "recovers"})
    EXPECT_EQ(text.find(name), std::string::npos);
}

TEST(EventJsonTest, AProcessKeepsItsStartTime) {
  EventJson json("n");
  Event e = note(1);
  e.process->start_ns = 5'000'000'000u;
  const std::string once = json(e);
  EXPECT_EQ(json(e), once);
  EXPECT_THAT(once,
              ::testing::ContainsRegex("\"start_time\":\"20[0-9-]+T[0-9:]+\\.[0-9][0-9][0-9]Z\""));
  EXPECT_THAT(once, ::testing::HasSubstr("\"start_ns\":5000000000"));
}

TEST(EventJsonTest, HostileNamesMakeValidJson) {
  std::mt19937 random(11);
  EventJson json("node");
  for (int i = 0; i < 5000; ++i) {
    Event e = full(1);
    for (std::string* s :
         {&e.process->comm, &e.process->cgroup, std::get_if<std::string>(&e.fields[7])})
      for (size_t n = random() % 40; n > 0; --n) s->push_back(static_cast<char>(random()));
    const std::string text = json(e);
    EXPECT_EQ(to_utf8(text), text);
    cJSON* parsed = cJSON_ParseWithLength(text.data(), text.size());
    ASSERT_NE(parsed, nullptr) << text;
    EXPECT_EQ(text.find_first_of("\n\r"), std::string::npos);
    cJSON_Delete(parsed);
  }
}

}  // namespace
}  // namespace gopher
