// Engines are tried in the order of cuDNN's heuristics: its quick mode, its thorough mode, then what it falls back to.
// An engine is passed over if it computes in less than the problem's arithmetic, gives other bits from run to run, or
// takes too much memory; the last two only while there is another one.
#include "cuda/conv_plan.h"

#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <mutex>
#include <sstream>

#include "cuda/backend.h"
#include "cuda/choices.h"
#include "cuda/device.h"
#include "cuda/libraries.h"
#include "cuda/library_kernels.h"
#include "cuda/timing.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the library that its calls go to; set by find_conv_plan
}

namespace minimx::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using Direction = ConvProblem::Direction;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : int64_t { kX = 1, kW, kY, kBias, kZ, kSum, kSquares };  // in the order in which pointers are handed over

constexpr int kDevices = 64;
constexpr int64_t kWorkspace = int64_t{1} << 30;  // bytes that are worth a faster engine
constexpr size_t kMostCandidates = 24;            // that autotuning times
constexpr size_t kFewCandidates = 8;              // likewise, of those that cuDNN compiles for the problem

[[noreturn]] void fail(const std::string& text) {
  throw Error(ErrorKind::kDevice, "convolution: expected cuDNN to run, got '" + text + "'. See mx.runtime.");
}
void check(fe::error_t status) {
  if (status.is_bad()) fail(status.get_message());
}
void check(cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS) fail(fe::detail::get_error_string(status));
}

/// cuDNN's handles: lent to one thread at a time, since a handle has one stream. Never destroyed.
class Handle {
 public:
  Handle(int device, StreamHandle stream) : device_(device) {
    {
      const std::lock_guard lock(mutex());
      auto& idle = idle_handles(device);
      if (!idle.empty()) entry_ = idle.back(), idle.pop_back();
    }
    if (!entry_.handle) check(fe::detail::create_handle(&entry_.handle));
    if (entry_.stream == stream && stream) return;
    check(fe::detail::set_stream(entry_.handle, static_cast<cudaStream_t>(stream)));
    entry_.stream = stream;
  }
  ~Handle() {
    const std::lock_guard lock(mutex());
    idle_handles(device_).push_back(entry_);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator cudnnHandle_t() const { return entry_.handle; }

 private:
  struct Entry {
    cudnnHandle_t handle = nullptr;
    StreamHandle stream = nullptr;
  };
  static std::mutex& mutex() {
    static auto* m = new std::mutex;
    return *m;
  }
  static std::vector<Entry>& idle_handles(int device) {
    static auto* lists = new std::array<std::vector<Entry>, kDevices>;
    return lists->at(device);
  }

  int device_;
  Entry entry_;
};

fe::DataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return fe::DataType_t::HALF;
    case DType::kBFloat16:
      return fe::DataType_t::BFLOAT16;
    default:
      return fe::DataType_t::FLOAT;
  }
}

/// Of a vector of channels, as cuDNN sees a bias or sums.
ConvProblem::Tensor channels_of(const ConvProblem& p) {
  ConvProblem::Tensor t{std::vector<int64_t>(p.y.shape.size(), 1), {}};
  t.shape[1] = p.y.shape[1];
  t.strides.assign(t.shape.size(), t.shape[1]);
  t.strides[1] = 1;
  return t;
}

Tensor input(Graph& graph, const ConvProblem& p, const char* name, int64_t uid, const ConvProblem::Tensor& t,
             DType dtype) {
  return graph.tensor(fe::graph::Tensor_attributes()
                          .set_name(name)
                          .set_uid(uid)
                          .set_dim(t.shape)
                          .set_stride(t.strides)
                          .set_alignment(p.alignment)
                          .set_data_type(type_of(dtype)));
}

void output(const ConvProblem& p, const Tensor& made, int64_t uid, const ConvProblem::Tensor& t, DType dtype) {
  made->set_output(true)
      .set_uid(uid)
      .set_dim(t.shape)
      .set_stride(t.strides)
      .set_alignment(p.alignment)
      .set_data_type(type_of(dtype));
}

template <class Attributes>
Attributes geometry(const ConvProblem& p) {
  return Attributes()
      .set_pre_padding(p.pad_begin)
      .set_post_padding(p.pad_end)
      .set_stride(p.stride)
      .set_dilation(p.dilation);
}

/// y = conv(x, w), with what follows it: intermediate results are float32 and stay on the chip.
void add_forward(Graph& graph, const ConvProblem& p) {
  const auto pointwise = [](fe::PointwiseMode_t mode) { return fe::graph::Pointwise_attributes().set_mode(mode); };
  Tensor y = graph.conv_fprop(input(graph, p, "x", kX, p.x, p.dtype), input(graph, p, "w", kW, p.w, p.dtype),
                              geometry<fe::graph::Conv_fprop_attributes>(p));
  if (p.bias) {
    y->set_dim(p.y.shape).set_stride(p.y.strides);
    const Tensor b = input(graph, p, "b", kBias, channels_of(p), p.wide_bias ? DType::kFloat32 : p.dtype);
    y = graph.pointwise(y, b, pointwise(fe::PointwiseMode_t::ADD));
  }
  if (p.residual) {
    y->set_dim(p.y.shape).set_stride(p.y.strides);
    y = graph.pointwise(y, input(graph, p, "z", kZ, p.y, p.dtype), pointwise(fe::PointwiseMode_t::ADD));
  }
  if (p.relu) {
    y->set_dim(p.y.shape).set_stride(p.y.strides);
    y = graph.pointwise(y, pointwise(fe::PointwiseMode_t::RELU_FWD));
  }
  output(p, y, kY, p.y, p.dtype);
  if (!p.statistics) return;
  const auto [sum, squares] = graph.genstats(y, fe::graph::Genstats_attributes());
  output(p, sum, kSum, channels_of(p), DType::kFloat32);
  output(p, squares, kSquares, channels_of(p), DType::kFloat32);
}

std::unique_ptr<Graph> graph_of(const ConvProblem& p) {
  auto graph = std::make_unique<Graph>();
  graph->set_io_data_type(type_of(p.dtype));
  graph->set_intermediate_data_type(fe::DataType_t::FLOAT);
  graph->set_compute_data_type(fe::DataType_t::FLOAT);
  if (p.direction == Direction::kForward) {
    add_forward(*graph, p);
  } else if (p.direction == Direction::kData) {
    const Tensor dy = input(*graph, p, "dy", kY, p.y, p.dtype), w = input(*graph, p, "w", kW, p.w, p.dtype);
    output(p, graph->conv_dgrad(dy, w, geometry<fe::graph::Conv_dgrad_attributes>(p)), kX, p.x, p.dtype);
  } else {
    const Tensor dy = input(*graph, p, "dy", kY, p.y, p.dtype), x = input(*graph, p, "x", kX, p.x, p.dtype);
    output(p, graph->conv_wgrad(dy, x, geometry<fe::graph::Conv_wgrad_attributes>(p)), kW, p.w, p.dtype);
  }
  return graph;
}

/// A graph and the engine chosen for it. Immutable, so many threads may enqueue it.
class GraphPlan final : public ConvPlan {
 public:
  GraphPlan(std::unique_ptr<Graph> graph, int64_t index, const ConvProblem& p, int device)
      : graph_(std::move(graph)), index_(index), operands_(p.operands()), device_(device) {
    check(graph_->prepare_variant_pack_template());
    int64_t bytes = 0;
    check(graph_->get_workspace_size_plan_at_index(index, bytes));
    workspace_ = static_cast<size_t>(std::max<int64_t>(0, bytes));
  }
  size_t workspace_bytes() const override { return workspace_; }

  void enqueue(std::span<void* const> operands, void* workspace, StreamHandle stream) const override {
    const Handle handle(device_, stream);
    check(graph_->execute_plan_at_index(handle, const_cast<void**>(operands.data()), operands_, workspace, index_));
  }

 private:
  std::unique_ptr<Graph> graph_;
  int64_t index_;
  int operands_;
  int device_;
  size_t workspace_ = 0;
};

/// Images have few channels, for which cuDNN has engines of their own that carry the note of a reduced precision. Of a
/// 7x7 convolution of 3 channels in float16 they give y to the same 4e-4 of its largest element as the others, and dw
/// to 1.3e-3 in place of 3e-4, in half the time.
constexpr int64_t kFewChannels = 8;

/// The engines that a problem may use, most promising first. Asks the heuristics only as far as it has to.
class Candidates {
 public:
  Candidates(const ConvProblem& p, int64_t limit, int device)
      : p_(p), limit_(limit), handle_(device, nullptr), graph_(graph_of(p)) {
    supported_ = graph_->validate().is_good() && graph_->build_operation_graph(handle_).is_good();
  }

  /// Moves on to the next engine that can be built; -1 at the end.
  int64_t next() {
    while (supported_) {
      while (++at_ < count_)
        if (graph_->build_plan_at_index(at_).is_good()) return at_;
      if (!ask_more()) break;
    }
    return -1;
  }
  /// Adds an engine by what an earlier process chose.
  bool add(const EngineChoice& choice) {
    std::unordered_map<fe::KnobType_t, int64_t> knobs;
    for (const auto& [knob, value] : choice.knobs) knobs[static_cast<fe::KnobType_t>(knob)] = value;
    if (!supported_ || graph_->create_execution_plan(choice.engine, knobs).is_bad()) return false;
    count_ = graph_->get_execution_plan_count();
    return count_ > 0;
  }
  Graph& graph() { return *graph_; }
  std::unique_ptr<Graph> take() { return std::move(graph_); }

 private:
  bool ask_more() {
    static constexpr fe::HeurMode_t kModes[] = {fe::HeurMode_t::A, fe::HeurMode_t::B, fe::HeurMode_t::FALLBACK};
    while (mode_ < std::size(kModes)) {
      if (graph_->create_execution_plans({kModes[mode_++]}).is_bad()) continue;
      const int64_t count = graph_->get_execution_plan_count();
      if (count == count_) continue;
      at_ = count_ - 1, count_ = count;
      pass_over();
      return true;
    }
    return false;
  }
  void pass_over() {
    using Note = fe::NumericalNote_t;
    std::vector<Note> notes;
    if (p_.x.shape[1] > kFewChannels) notes.push_back(Note::REDUCED_PRECISION_REDUCTION);
    if (p_.dtype == DType::kFloat32) notes.push_back(Note::DOWN_CONVERT_INPUTS);
    if (p_.dtype == DType::kFloat32 && !p_.tf32) notes.push_back(Note::TENSOR_CORE);
    if (p_.deterministic) notes.push_back(Note::NONDETERMINISTIC);
    graph_->deselect_numeric_notes(notes);
    graph_->deselect_workspace_greater_than(p_.workspace.value_or(limit_));
  }

  const ConvProblem& p_;
  int64_t limit_;
  Handle handle_;
  std::unique_ptr<Graph> graph_;
  bool supported_ = false;
  size_t mode_ = 0;
  int64_t at_ = -1, count_ = 0;
};

using PlanPtr = std::shared_ptr<const ConvPlan>;

PlanPtr first_plan(const ConvProblem& p, int64_t limit, int device) {
  Candidates candidates(p, limit, device);
  const int64_t index = candidates.next();
  return index < 0 ? nullptr : std::make_shared<GraphPlan>(candidates.take(), index, p, device);
}

// --- timing, and remembering what it found
// -----------------------------------------------------------------------------

size_t bytes_of(const ConvProblem::Tensor& t, DType dtype) {
  size_t n = itemsize(dtype);
  for (int64_t d : t.shape) n *= static_cast<size_t>(d);
  return n;
}

/// The milliseconds of an engine, or infinity if it does not run.
float time_of_engine(Graph& graph, int64_t index, const ConvProblem& p, int device) {
  const std::lock_guard alone(timing());
  int64_t bytes = 0;
  check(graph.get_workspace_size_plan_at_index(index, bytes));
  const Buffer x(bytes_of(p.x, p.dtype), device), w(bytes_of(p.w, p.dtype), device), y(bytes_of(p.y, p.dtype), device),
      workspace(static_cast<size_t>(bytes), device);
  const size_t vector = bytes_of(channels_of(p), DType::kFloat32);
  const Buffer b(vector, device), sum(vector, device), squares(vector, device),
      z(p.residual ? bytes_of(p.y, p.dtype) : 0, device);
  std::vector<void*> pointers{x.data(), w.data(), y.data()};
  if (p.bias) pointers.push_back(b.data());
  if (p.residual) pointers.push_back(z.data());
  if (p.statistics) pointers.insert(pointers.end(), {sum.data(), squares.data()});
  const Handle handle(device, backend()->stream(device, StreamKind::kCompute));
  bool runs = true;
  const float ms = time_of(device, [&](StreamHandle) {
    const int count = p.operands();
    runs = runs && graph.execute_plan_at_index(handle, pointers.data(), count, workspace.data(), index).is_good();
  });
  return runs ? ms : std::numeric_limits<float>::infinity();
}

/// The engine that ran fastest, of the first candidates; -1 where there is none.
int64_t fastest(Candidates& candidates, const ConvProblem& p, int device) {
  int64_t best = -1;
  float best_ms = std::numeric_limits<float>::infinity();
  const size_t most = p.statistics ? kFewCandidates : kMostCandidates;
  for (size_t tried = 0; tried < most; ++tried) {
    const int64_t index = candidates.next();
    if (index < 0) break;
    const float ms = time_of_engine(candidates.graph(), index, p, device);
    if (ms < best_ms) best_ms = ms, best = index;
  }
  return best;
}

EngineChoice choice_of(const Graph& graph, int64_t index) {
  EngineChoice choice;
  std::unordered_map<fe::KnobType_t, int64_t> knobs;
  check(graph.get_engine_and_knobs_at_index(index, choice.engine, knobs));
  for (const auto& [knob, value] : knobs) choice.knobs.emplace_back(static_cast<int64_t>(knob), value);
  return choice;
}

PlanPtr tuned_plan(const ConvProblem& p, int64_t limit, int device) {
  const ChoiceFile file(device);
  if (EngineChoice choice; file.find(p.str(), choice)) {
    Candidates known(p, limit, device);
    if (known.add(choice))
      if (const int64_t index = known.next(); index >= 0)
        return std::make_shared<GraphPlan>(known.take(), index, p, device);
  }
  Candidates candidates(p, limit, device);
  const int64_t index = fastest(candidates, p, device);
  if (index < 0) return nullptr;
  file.append(p.str(), choice_of(candidates.graph(), index));
  return std::make_shared<GraphPlan>(candidates.take(), index, p, device);
}

PlanPtr choose(ConvProblem p, int device) {
  const bool tune = library_settings().autotune && !p.workspace;
  const auto attempt = [&](int64_t limit) {
    return tune ? tuned_plan(p, limit, device) : first_plan(p, limit, device);
  };
  PlanPtr plan = attempt(kWorkspace);
  if (p.statistics) return plan;  // the sums can be had by another kernel
  if (!plan && p.deterministic) p.deterministic = false, plan = attempt(kWorkspace);
  if (!plan && !p.workspace) plan = attempt(std::numeric_limits<int64_t>::max());
  return plan;
}

}  // namespace

std::string ConvProblem::str() const {
  std::ostringstream out;
  const auto list = [&](const char* name, const std::vector<int64_t>& values) {
    out << ' ' << name;
    for (size_t i = 0; i < values.size(); ++i) out << (i ? "," : "") << values[i];
  };
  static constexpr const char* kNames[] = {"fwd", "bwd_data", "bwd_weights"};
  out << kNames[static_cast<int>(direction)] << ' ' << dtype_name(dtype);
  const std::pair<const char*, const Tensor*> tensors[] = {{"x", &x}, {"w", &w}, {"y", &y}};
  for (const auto& [name, t] : tensors) {
    list(name, t->shape);
    list("/", t->strides);
  }
  list("stride", stride);
  list("dilate", dilation);
  list("pad", pad_begin);
  list("to", pad_end);
  out << (bias ? wide_bias ? " wide bias" : " bias" : "") << (residual ? " residual" : "") << (relu ? " relu" : "")
      << (statistics ? " statistics" : "") << (tf32 ? " tf32" : "") << (deterministic ? " deterministic" : "")
      << " align " << alignment;
  if (workspace) out << " workspace " << *workspace;
  return out.str();
}

std::shared_ptr<const ConvPlan> find_conv_plan(const ConvProblem& problem, int device) {
  static auto* mutex = new std::mutex;
  static auto* plans = new std::map<std::string, PlanPtr>;
  const std::string key = problem.str() + (library_settings().autotune ? " tuned " : " ") + std::to_string(device);
  void* const library = cudnn().handle();
  {
    const std::lock_guard lock(*mutex);
    fe::cudnn_dlhandle = library;
    if (const auto found = plans->find(key); found != plans->end()) return found->second;
  }
  try {
    PlanPtr plan = choose(problem, device);
    const std::lock_guard lock(*mutex);
    return plans->emplace(key, plan).first->second;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {  // cudnn_frontend's own, or a library that it could not open
    fail(e.what());
  }
}

}  // namespace minimx::cuda
