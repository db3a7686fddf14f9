#include "runtime/repeats.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "runtime/deferred.h"
#include "runtime/invoke.h"

namespace minimx {
namespace {

constexpr size_t kForerunners = 256;  // remembered before all are forgotten: a bound
constexpr size_t kFollowers = 4;      // of one: the seldom ones go

std::atomic<Repeats::When> g_default{Repeats::When::kNever};
std::thread::id g_home;  // the thread that set it
thread_local std::unique_ptr<Repeats> t_repeats;
thread_local bool t_asked = false;

}  // namespace

void Repeats::set(When when) {
  t_asked = true;
  mode().repeats = nullptr;
  if (when == When::kNever) return;
  if (!t_repeats) t_repeats = std::make_unique<Repeats>();
  t_repeats->end();
  t_repeats->always_ = when == When::kAlways;
  mode().repeats = t_repeats.get();
}

void Repeats::set_default(When when) {
  g_home = std::this_thread::get_id();
  g_default.store(when, std::memory_order_relaxed);
}

Repeats::When Repeats::when() {
  const When by_default = g_default.load(std::memory_order_relaxed);
  if (!t_asked) return by_default == When::kPays && std::this_thread::get_id() != g_home ? When::kNever : by_default;
  return !mode().repeats ? When::kNever : t_repeats->always_ ? When::kAlways : When::kPays;
}

void Repeats::boundary() {
  if (Repeats* r = mode().repeats) {
    r->end();
    return Deferred::run_sequences();
  }
  if (!t_asked && when() != When::kNever) set(when());
}

void Repeats::end() {
  if (!calls_) return;
  const bool pays = cost_ns_ >= kPays * static_cast<double>(std::exchange(calls_, 0));
  cost_ns_ = 0;
  taped_ = false;
  follow_ = always_ || pays ? kFollow : std::max(follow_ - 1, 0);
  if (now_.empty()) return;
  if (after_.size() > kForerunners) after_.clear();
  if (now_.size() <= kMost) {
    std::vector<Sequence>& all = after_[before_];
    auto same = std::ranges::find(all, hash_, &Sequence::hash);
    if (same == all.end()) {
      if (all.size() == kFollowers) all.erase(std::ranges::min_element(all, {}, &Sequence::seen));
      same = all.insert(all.end(), Sequence{hash_, now_, {}});
    }
    same->pays = pays;
    ++same->seen;
  }
  before_ = hash_;
  hash_ = 0;
  expected_ = nullptr;
  now_.clear();
}

Repeats::Sequence* Repeats::candidate() {
  const auto found = after_.find(before_);
  if (found == after_.end()) return nullptr;
  for (Sequence& s : found->second)
    if (s.likely() && (always_ || s.pays) && s.plans.size() >= now_.size() &&
        std::equal(now_.begin(), now_.end(), s.plans.begin()))
      return &s;
  return nullptr;
}

bool Repeats::follows(const Plan* plan) {
  hash_ = mixed(hash_, reinterpret_cast<uintptr_t>(plan));
  if (now_.size() <= kMost) now_.push_back(plan);
  if (now_.size() == 1) {
    expected_ = candidate();
  } else if (expected_ && (now_.size() > expected_->plans.size() || expected_->plans[now_.size() - 1] != plan)) {
    ++expected_->missed;
    expected_ = candidate();
    if (!expected_) Deferred::run_own();
  }
  return expected_ != nullptr;
}

const profile::Text& Repeats::site() {
  std::vector<profile::Text>& sites = expected_->sites;
  sites.resize(expected_->plans.size());
  profile::Text& site = sites[now_.size() - 1];
  if (!site && rules().site) site = rules().site();
  return site;
}

}  // namespace minimx
