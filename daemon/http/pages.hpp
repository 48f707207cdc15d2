// pages.hpp - the routes that gopherd serves.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/collectable.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bus/store.hpp"
#include "http/server.hpp"

namespace gopher::http {

// Told when a page has been written: the time spent writing it, not waiting for the client.
using ScrapeDone = std::function<void(double seconds)>;

// /metrics: the daemon's own metrics, then the store's; as the client asks for it.
Route metrics_route(const Store& store, std::vector<const prometheus::Collectable*> own,
                    ScrapeDone done);

// /healthz: "ok", or 503 with the reason that `reason` gives.
Route health_route(std::function<std::optional<std::string>()> reason);

// /: what there is, for people.
Route index_route(const std::string& version);

}  // namespace gopher::http
