// library.cpp - one plugin file, opened and checked.
// SPDX-License-Identifier: Apache-2.0
#include "plugin/library.hpp"

#include <dirent.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace gopher {
namespace {

// What the first version of this ABI had; a plugin that gives less is none.
constexpr uint32_t kMinimalSize = offsetof(gopher_probe_ops, destroy) + sizeof(void*);

template <class T>
std::string check_names(const T* items, uint32_t n, const char* what) {
  if (n && !items) return std::string("its table of ") + what + "s is missing";
  for (uint32_t i = 0; i < n; ++i)
    if (!items[i].name || !*items[i].name || !items[i].help)
      return std::string("a ") + what + " has no name or no help";
  return "";
}

std::string check_members(const gopher_label* m, uint32_t n, uint32_t max) {
  if (n > max) return "too many members";
  for (uint32_t i = 0; i < n; ++i)
    if (!m[i].name || m[i].type < GOPHER_U64 || m[i].type > GOPHER_BYTES ||
        (m[i].type == GOPHER_ENUM && !m[i].values))
      return "a member has no name or an unknown type";
  return "";
}

std::string check_tables(const gopher_probe_ops& o) {
  for (const std::string& e :
       {check_names(o.options, o.n_options, "option"),
        check_names(o.metrics, o.n_metrics, "metric"), check_names(o.events, o.n_events, "event"),
        check_names(o.hooks, o.n_hooks, "hook")})
    if (!e.empty()) return e;
  for (uint32_t i = 0; i < o.n_metrics; ++i) {
    const gopher_metric& m = o.metrics[i];
    std::string e = check_members(m.labels, m.n_labels, GOPHER_MAX_LABELS);
    if (!e.empty()) return std::string(m.name) + ": " + e;
    if (m.kind == GOPHER_HISTOGRAM && !m.bounds) return std::string(m.name) + ": no bounds";
  }
  for (uint32_t i = 0; i < o.n_options; ++i)
    if (o.options[i].offset >= o.config_size)
      return std::string(o.options[i].name) + ": lies outside of the config struct";
  if (o.n_hooks > 64) return "more than 64 hooks";
  return "";
}

}  // namespace

Result<Library> Library::open(const std::string& path) {
  Library lib;
  lib.path_ = path;
  lib.handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!lib.handle_) return Error{ENOEXEC, dlerror()};
  const auto* ops = static_cast<const gopher_probe_ops*>(dlsym(lib.handle_, GOPHER_PROBE_SYMBOL));
  if (!ops) return Error{ENOEXEC, "exports no symbol " GOPHER_PROBE_SYMBOL};
  if (ops->abi != GOPHER_PROBE_ABI)
    return Error{ENOEXEC, "is built for probe ABI " + std::to_string(ops->abi) +
                              ", this gopherd has " + std::to_string(GOPHER_PROBE_ABI)};
  if (ops->size < kMinimalSize)
    return Error{ENOEXEC, "its gopher_probe_ops has " + std::to_string(ops->size) +
                              " bytes, at least " + std::to_string(kMinimalSize) + " are needed"};
  std::memcpy(&lib.ops_, ops, std::min<size_t>(ops->size, sizeof lib.ops_));
  const gopher_probe_ops& o = lib.ops_;
  if (!o.name || !*o.name || !o.version || !o.summary || !o.create || !o.start || !o.stop ||
      !o.destroy)
    return Error{ENOEXEC, "lacks its name, version, summary or one of its functions"};
  if (std::string e = check_tables(o); !e.empty()) return Error{ENOEXEC, "has a bad table: " + e};
  return lib;
}

Result<LibraryScan> scan_libraries(const std::string& folder) {
  DIR* d = opendir(folder.c_str());
  if (!d)
    return errno_error(errno, "plugin folder " + folder + " (another one: --plugin-dir FOLDER)");
  std::set<std::string> files;
  while (const dirent* e = readdir(d))
    if (std::string_view(e->d_name).ends_with(".so")) files.insert(e->d_name);
  closedir(d);
  LibraryScan scan;
  std::set<std::string> names;
  for (const std::string& f : files) {
    auto lib = Library::open(folder + "/" + f);
    if (!lib)
      scan.refused.push_back(f + ": " + lib.error().text);
    else if (!names.insert(lib->ops().name).second)
      scan.refused.push_back(f + ": there is already a probe named " + lib->ops().name);
    else
      scan.libraries.push_back(*std::move(lib));
  }
  std::sort(scan.libraries.begin(), scan.libraries.end(), [](const Library& a, const Library& b) {
    return std::string_view(a.ops().name) < b.ops().name;
  });
  return scan;
}

}  // namespace gopher
