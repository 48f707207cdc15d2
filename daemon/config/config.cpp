// config.cpp - reads gopher.conf through libconfig and fills option structs.
// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"

#include <dirent.h>
#include <libconfig.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <set>

namespace gopher {
namespace {

struct ConfigFile {
  config_t c;
  ConfigFile() { config_init(&c); }
  ~ConfigFile() { config_destroy(&c); }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
};

const char* type_name(uint32_t type) {
  switch (type) {
    case GOPHER_OPT_BOOL:
      return "true or false";
    case GOPHER_OPT_INT:
      return "an integer";
    case GOPHER_OPT_DOUBLE:
      return "a number";
    case GOPHER_OPT_STRING:
      return "a string in quotes";
    default:
      return "a list in square brackets";
  }
}

std::string quote(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string number_text(double v) {
  char buf[40];
  std::snprintf(buf, sizeof buf, "%.15g", v);
  return buf;
}

}  // namespace

std::string nearest(std::string_view word, std::span<const std::string> known) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& k : known) {
    std::vector<size_t> row(k.size() + 1);
    std::iota(row.begin(), row.end(), 0);
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= k.size(); ++j) {
        size_t up = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (word[i - 1] != k[j - 1])});
        diagonal = up;
      }
    }
    if (row[k.size()] < best_distance) {
      best_distance = row[k.size()];
      best = k;
    }
  }
  return best;
}

OptionGroup::OptionGroup(std::span<const gopher_option> table, size_t size)
    : table_(table),
      storage_(size / sizeof(std::max_align_t) + 1),
      data_(reinterpret_cast<std::byte*>(storage_.data()), size),
      values_(table.size()) {}

void OptionGroup::set(const gopher_option& option, const Value& value) {
  values_[static_cast<size_t>(&option - table_.data())] = value;
}

// Writes the values into the struct; once, when all files are read.
void OptionGroup::finish() {
  for (size_t i = 0; i < table_.size(); ++i) {
    const gopher_option& o = table_[i];
    const Value& v = values_[i];
    std::byte* at = data_.data() + o.offset;
    text_ += std::string(o.name) + " = ";
    switch (o.type) {
      case GOPHER_OPT_BOOL:
        std::memcpy(at, &v.boolean, sizeof v.boolean);
        text_ += v.boolean ? "true" : "false";
        break;
      case GOPHER_OPT_INT:
        std::memcpy(at, &v.integer, sizeof v.integer);
        text_ += std::to_string(v.integer);
        break;
      case GOPHER_OPT_DOUBLE:
        std::memcpy(at, &v.real, sizeof v.real);
        text_ += number_text(v.real);
        break;
      case GOPHER_OPT_STRING: {
        texts_.push_back(std::make_unique<std::vector<std::string>>(1, v.string));
        const char* s = texts_.back()->front().c_str();
        std::memcpy(at, &s, sizeof s);
        text_ += quote(v.string);
        break;
      }
      default: {
        texts_.push_back(std::make_unique<std::vector<std::string>>(v.list));
        lists_.push_back(std::make_unique<std::vector<const char*>>());
        text_ += "[";
        for (const std::string& s : *texts_.back()) {
          lists_.back()->push_back(s.c_str());
          text_ += quote(s) + ", ";
        }
        text_ += "]";
        gopher_strings list = {lists_.back()->data(), static_cast<uint32_t>(v.list.size()), 0};
        std::memcpy(at, &list, sizeof list);
      }
    }
    text_ += "\n";
  }
}

bool Config::probe_enabled(std::string_view name) const {
  auto it = enabled_.find(name);
  return it != enabled_.end() && it->second;
}

const OptionGroup* Config::probe(std::string_view name) const {
  auto it = groups_.find("probes." + std::string(name));
  return it == groups_.end() ? nullptr : &it->second;
}

const std::string& Config::text(std::string_view group) const {
  static const std::string none;
  auto it = groups_.find(group);
  return it == groups_.end() ? none : it->second.text();
}

std::string Config::place(const std::string& path) const {
  auto it = places_.find(path);
  return it == places_.end() ? file_ : it->second;
}

// Collects values and mistakes from one file after the other.
class ConfigBuilder {
 public:
  ConfigBuilder(const std::string& file, std::span<const ProbeOptions> probes)
      : config_(std::make_shared<Config>()) {
    config_->file_ = file;
    add_group("daemon", {kDaemonOptions.items, kDaemonOptions.kSize}, sizeof(DaemonOptions));
    add_group("prometheus", {kPrometheusOptions.items, kPrometheusOptions.kSize},
              sizeof(PrometheusOptions));
    add_group("kafka", {kKafkaOptions.items, kKafkaOptions.kSize}, sizeof(KafkaOptions));
    add_group("history", {kHistoryOptions.items, kHistoryOptions.kSize}, sizeof(HistoryOptions));
    add_group("filter", {kFilterOptions.items, kFilterOptions.kSize}, sizeof(FilterOptions));
    for (const ProbeOptions& p : probes) {
      probes_.emplace_back(p.name);
      add_group("probes." + std::string(p.name), p.options, p.config_size);
    }
  }

  void read(const std::string& file) {
    ConfigFile f;
    if (!config_read_file(&f.c, file.c_str())) {
      const char* in = config_error_file(&f.c);
      if (config_error_type(&f.c) == CONFIG_ERR_FILE_IO)
        errors_.push_back(file + ": cannot be read: " + std::strerror(errno));
      else
        errors_.push_back(std::string(in ? in : file) + ":" +
                          std::to_string(config_error_line(&f.c)) + ": " + config_error_text(&f.c) +
                          "; libconfig stopped here");
      return;
    }
    file_ = file;
    config_setting_t* root = config_root_setting(&f.c);
    for (int i = 0; i < config_setting_length(root); ++i)
      top_level(config_setting_get_elem(root, static_cast<unsigned>(i)));
  }

  ConfigResult finish() {
    if (!errors_.empty()) return {nullptr, std::move(errors_)};
    for (auto& [name, group] : config_->groups_) group.finish();
    return {std::move(config_), {}};
  }

 private:
  void add_group(const std::string& name, std::span<const gopher_option> table, size_t size) {
    auto& group = config_->groups_.emplace(name, OptionGroup(table, size)).first->second;
    for (const gopher_option& o : table) {
      ConfigFile f;
      std::string text = std::string("x = ") + o.default_value + ";";
      OptionGroup::Value v;
      if (!config_read_string(&f.c, text.c_str()) ||
          !parse(o, config_lookup(&f.c, "x"), &v).empty())
        errors_.push_back(name + "." + o.name + ": its own default " + o.default_value +
                          " is not valid: the table is broken");
      group.set(o, v);
    }
  }

  std::string where(const config_setting_t* s) const {
    const char* file = config_setting_source_file(s);
    return std::string(file ? file : file_) + ":" + std::to_string(config_setting_source_line(s));
  }
  void error(const config_setting_t* s, const std::string& text) {
    errors_.push_back(where(s) + ": " + text);
  }

  std::string hint(std::string_view word, const std::vector<std::string>& known) {
    std::string near = nearest(word, known);
    if (!near.empty()) return "; did you mean `" + near + "`?";
    std::string all;
    for (const std::string& k : known) all += (all.empty() ? "" : ", ") + k;
    return "; known: " + all;
  }

  void top_level(config_setting_t* s) {
    std::string name = config_setting_name(s);
    if (name == "probes") {
      if (!config_setting_is_group(s)) return error(s, "`probes` is a group: probes = { ... }");
      for (int i = 0; i < config_setting_length(s); ++i)
        probe(config_setting_get_elem(s, static_cast<unsigned>(i)));
      return;
    }
    if (config_->groups_.find(name) == config_->groups_.end() || name.find('.') != name.npos)
      return error(
          s, "unknown group `" + name + "`" +
                 hint(name, {"daemon", "prometheus", "kafka", "history", "filter", "probes"}));
    group(s, name, false);
  }

  void probe(config_setting_t* s) {
    std::string name = config_setting_name(s);
    if (std::find(probes_.begin(), probes_.end(), name) == probes_.end())
      return error(s, "no plugin of that name: `" + name + "`" + hint(name, probes_));
    config_->enabled_.try_emplace(name, true);
    group(s, "probes." + name, true);
  }

  void group(config_setting_t* s, const std::string& path, bool is_probe) {
    if (!config_setting_is_group(s))
      return error(s, "`" + path + "` is a group: " + path + " = { ... }");
    OptionGroup& g = config_->groups_.find(path)->second;
    for (int i = 0; i < config_setting_length(s); ++i) {
      config_setting_t* m = config_setting_get_elem(s, static_cast<unsigned>(i));
      std::string name = config_setting_name(m);
      if (is_probe && name == "enabled") {
        if (config_setting_type(m) != CONFIG_TYPE_BOOL)
          error(m, "`enabled` must be true or false");
        else
          config_->enabled_[path.substr(7)] = config_setting_get_bool(m);
        continue;
      }
      option(m, name, path, &g, is_probe);
    }
  }

  void option(config_setting_t* m, const std::string& name, const std::string& path, OptionGroup* g,
              bool is_probe) {
    for (const gopher_option& o : g->table_) {
      if (name != o.name) continue;
      OptionGroup::Value v;
      std::string problem = parse(o, m, &v);
      if (!problem.empty()) return error(m, "`" + path + "." + name + "` " + problem);
      g->set(o, v);
      config_->places_[path + "." + name] = where(m);
      return;
    }
    std::vector<std::string> known;
    if (is_probe) known.emplace_back("enabled");
    for (const gopher_option& o : g->table_) known.emplace_back(o.name);
    error(m, "unknown option `" + name + "` in `" + path + "`" + hint(name, known));
  }

  // "" or what is wrong with it.
  static std::string parse(const gopher_option& o, const config_setting_t* s,
                           OptionGroup::Value* v) {
    int type = config_setting_type(s);
    bool is_int = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    std::string wrong = std::string("must be ") + type_name(o.type);
    switch (o.type) {
      case GOPHER_OPT_BOOL:
        if (type != CONFIG_TYPE_BOOL) return wrong;
        v->boolean = config_setting_get_bool(s);
        return "";
      case GOPHER_OPT_INT:
        if (!is_int) return wrong;
        v->integer = config_setting_get_int64(s);
        return in_range(o, static_cast<double>(v->integer));
      case GOPHER_OPT_DOUBLE:
        if (!is_int && type != CONFIG_TYPE_FLOAT) return wrong;
        v->real =
            is_int ? static_cast<double>(config_setting_get_int64(s)) : config_setting_get_float(s);
        return in_range(o, v->real);
      case GOPHER_OPT_STRING:
        if (type != CONFIG_TYPE_STRING) return wrong;
        v->string = config_setting_get_string(s);
        return choice(o, v->string);
      default:
        return parse_list(s, v);
    }
  }

  static std::string in_range(const gopher_option& o, double v) {
    if (o.min == 0 && o.max == 0) return "";
    if (v >= o.min && v <= o.max) return "";
    std::string unit = *o.unit ? std::string(" ") + o.unit : "";
    return "is " + number_text(v) + ", but must be from " + number_text(o.min) + " to " +
           number_text(o.max) + unit;
  }

  static std::string choice(const gopher_option& o, const std::string& v) {
    if (!o.n_choices) return "";
    std::string all;
    for (uint32_t i = 0; i < o.n_choices; ++i) {
      if (v == o.choices[i]) return "";
      all += (all.empty() ? "" : ", ") + quote(o.choices[i]);
    }
    return "is " + quote(v) + ", but must be one of " + all;
  }

  static std::string parse_list(const config_setting_t* s, OptionGroup::Value* v) {
    if (!config_setting_is_array(s) && !config_setting_is_list(s))
      return "must be a list in square brackets";
    for (int i = 0; i < config_setting_length(s); ++i) {
      const config_setting_t* e = config_setting_get_elem(s, static_cast<unsigned>(i));
      switch (config_setting_type(e)) {
        case CONFIG_TYPE_STRING:
          v->list.emplace_back(config_setting_get_string(e));
          break;
        case CONFIG_TYPE_INT:
        case CONFIG_TYPE_INT64:
          v->list.push_back(std::to_string(config_setting_get_int64(e)));
          break;
        default:
          return "is a list of strings or integers only";
      }
    }
    return "";
  }

  std::shared_ptr<Config> config_;
  std::vector<std::string> probes_;
  std::vector<std::string> errors_;
  std::string file_;
};

ConfigResult load_config(const std::string& file, std::span<const ProbeOptions> probes) {
  ConfigBuilder builder(file, probes);
  builder.read(file);
  std::set<std::string> drop_ins;
  const std::string folder = file + ".d";
  if (DIR* d = opendir(folder.c_str())) {
    while (const dirent* e = readdir(d)) {
      std::string_view name = e->d_name;
      if (name.ends_with(".conf") && name[0] != '.') drop_ins.insert(folder + "/" + e->d_name);
    }
    closedir(d);
  }
  for (const std::string& f : drop_ins) builder.read(f);
  return builder.finish();
}

}  // namespace gopher
