// fuzz_history.cpp - any bytes as events.db: opened or refused, read, written, never a crash.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/unique_fd.hpp"
#include "export/history_db.hpp"

namespace {

// One folder per process, in memory where there is such a file system.
const std::string& folder() {
  static const std::string path = [] {
    std::string name =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm/gopher-fuzz-XXXXXX" : "/tmp/gopher-fuzz-XXXXXX";
    if (!mkdtemp(name.data())) abort();
    static const std::string kept = name;
    atexit([] {
      std::error_code ignored;
      std::filesystem::remove_all(kept, ignored);
    });
    return name;
  }();
  return path;
}

void use(gopher::HistoryDb& db, const std::string& path) {
  using namespace gopher;
  (void)db.last_seq();
  (void)db.positions();
  (void)db.set_position("sink", 1);
  const HistoryRow row = {
      .id = {1, 2}, .time_ns = 3, .type = "t", .probe = "p", .severity = 1, .json = "{}"};
  (void)db.store({&row, 1}, 1);
  (void)db.expire(10, HistoryDb::kAll);
  (void)db.checkpoint();
  auto reader = HistoryReader::open(path);
  if (!reader) return;
  (void)reader->after(0, 100, 1 << 20);
  (void)reader->find(HistoryQuery{.type = "t", .pid = 7, .limit = 100});
  (void)reader->find(gopher_event_id{1, 2});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gopher;
  const std::string path = folder() + "/events.db";
  {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (write(fd.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  }
  if (auto db = HistoryDb::open(path, {.max_age_ns = 0, .max_bytes = 1 << 20})) use(*db, path);
  for (const char* suffix : {"-wal", "-shm"}) unlink((path + suffix).c_str());
  return 0;
}
