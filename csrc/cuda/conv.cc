// Convolutions of a GPU, 1d to 3d: conv_fwd, conv_bwd_data and conv_bwd_weights, as csrc/cpu/dnnl_conv.cc defines them,
// and conv_fwd_stats, as csrc/cpu/channel_sums.cc does.
//
// cuDNN gets operands packed with channels first or all packed with channels last, whichever most of them already are;
// the others are copied through temporaries. A bias, residual or ReLU that no engine of cuDNN takes in is a step of its
// own, as is the sum for the bias' gradient. The few channels of an image are filled up with zeros where that is
// quicker, since tensor cores are fed 16 bytes of channels at once. What cuDNN does not compute at all goes to the
// plain kernel of minimx/rtc/cuda.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>

#include "cuda/choices.h"
#include "cuda/conv_call.h"
#include "cuda/device.h"
#include "cuda/steps.h"
#include "cuda/timing.h"

namespace minimx::cuda {
namespace {

using Direction = ConvProblem::Direction;

// --- channels filled up
// ------------------------------------------------------------------------------------------------

// What a GPU of these years does in a nanosecond, roughly: it only has to tell 1 ms from 0.5 ms.
constexpr double kFlops = 300e3;     // of 16 bits, by engines that read 16 bytes of channels at once
constexpr double kSlowFlops = 40e3;  // by engines that read channels one by one

double elements(const Spec& s) { return static_cast<double>(s.size()); }

/// The channels to fill x and w up to, or 0 where that cannot help.
int64_t filled_channels(const ConvCall& c, bool channels_last) {
  const Spec &x = *c.x.spec, &w = *c.w.spec;
  const auto step = kAlignment / static_cast<int64_t>(itemsize(x.dtype));
  const int64_t channels = x.shape[1], filled = (channels + step - 1) / step * step;
  if (!channels_last || filled == channels || w.shape[1] != channels) return 0;
  const bool tensor_cores = x.dtype != DType::kFloat32 || library_settings().allow_tf32;
  return tensor_cores ? filled : 0;
}

/// True where filling up saves more than it takes, by the numbers above.
bool filling_pays(const ConvCall& c, int64_t filled) {
  const Spec &x = *c.x.spec, &w = *c.w.spec;
  const double item = static_cast<double>(itemsize(x.dtype)), few = static_cast<double>(x.shape[1]);
  const double all = static_cast<double>(filled), window = elements(w) / few / static_cast<double>(w.shape[0]);
  const double flops = 2 * elements(*c.y.spec) * window;            // of one channel
  const double moved = elements(x) / few * item * (few + 2 * all);  // read, written, and read again
  return flops * all * item / 2 / kFlops + moved / kBytesMoved + 2 * kLaunch < flops * few / kSlowFlops;
}

// --- kernels
// -----------------------------------------------------------------------------------------------------------

/// cuDNN's part. Data: x, w, y and, where fused, b, z and the sums. Immutable but for a second plan, made when operands
/// are first seen that are aligned to their elements only (a slice of a batch).
class ConvKernel final : public DeviceKernel {
 public:
  ConvKernel(ConvProblem problem, std::shared_ptr<const ConvPlan> plan, int device)
      : problem_(std::move(problem)), plan_(std::move(plan)), device_(device) {}
  size_t workspace_bytes() const override { return plan_->workspace_bytes(); }

  void enqueue(void* const* data, void* workspace, StreamHandle stream) const override {
    const std::span operands(data, problem_.operands());
    uintptr_t bits = 0;
    for (void* p : operands) bits |= reinterpret_cast<uintptr_t>(p);
    const ConvPlan& plan = bits % kAlignment == 0 ? *plan_ : unaligned();
    plan.enqueue(operands, workspace, stream);
  }

 private:
  /// Made on a thread of its own: this one may be capturing a graph, which forbids it calls that cuDNN may want.
  const ConvPlan& unaligned() const {
    std::call_once(once_, [this] {
      ConvProblem p = problem_;
      p.alignment = itemsize(p.dtype);
      p.workspace = static_cast<int64_t>(plan_->workspace_bytes());
      std::exception_ptr failure;
      std::thread([&] {
        try {
          gpu(device_).use();
          unaligned_ = find_conv_plan(p, device_);
        } catch (...) {
          failure = std::current_exception();
        }
      }).join();
      if (failure) std::rethrow_exception(failure);
    });
    if (!unaligned_)
      throw Error(ErrorKind::kNotImplemented,
                  "convolution: expected operands whose memory begins at a multiple of 16 bytes, got a view that does "
                  "not, and cuDNN has no other way for this shape. Copy it first.");
    return *unaligned_;
  }

  ConvProblem problem_;
  std::shared_ptr<const ConvPlan> plan_;
  int device_;
  mutable std::once_flag once_;
  mutable std::shared_ptr<const ConvPlan> unaligned_;
};

/// Collects the steps around cuDNN's: each operand's place in the form that cuDNN gets.
class Builder {
 public:
  Builder(const ConvCall& call, const ConvForm& form) : c_(call), form_(form), steps_(std::make_shared<Steps>()) {}

  KernelPtr build(const std::shared_ptr<ConvKernel>& kernel) {
    const Steps::Place x = place(c_.x), w = place(c_.w), y = place(c_.y);
    std::vector<Steps::Place> places{x, w, y};
    if (form_.fused && c_.b.spec) places.push_back(bias(form_.narrow ? c_.y.spec->dtype : c_.b.spec->dtype));
    if (form_.fused && c_.z.spec) places.push_back(place(c_.z));
    if (form_.fused && c_.sum.spec) places.insert(places.end(), {{c_.sum.place}, {c_.squares.place}});
    steps_->add(kernel, places);
    if (c_.direction == Direction::kForward && !form_.fused) finish_forward(y);
    if (c_.direction == Direction::kWeights && c_.b.spec) add_bias_gradient();
    write_back(places[c_.direction == Direction::kForward ? 2 : c_.direction == Direction::kData ? 0 : 1]);
    return steps_;
  }

 private:
  Steps::Place place(const ConvCall::Operand& o) {
    const Spec seen = form_.of(c_, o);
    const bool fills = seen.shape[1] != o.spec->shape[1];
    if (!fills && is_packed(*o.spec, form_.channels_last)) return {o.place};
    const Steps::Place made = steps_->temporary(seen);
    if (&o != &c_.out()) steps_->add(fills ? filled(*o.spec, seen) : copy(*o.spec, seen, c_.device), {{o.place}, made});
    return made;
  }
  /// The copy of an operand to one with more channels, zeros in those, in one go over memory.
  KernelPtr filled(const Spec& from, const Spec& to) const {
    const auto last = [](const Spec& s) {  // with the channels' axis last
      Spec out{s.dtype, {s.shape[0]}, {s.strides[0]}, ""};
      for (int i = 2; i <= s.shape.size(); ++i) {
        const int axis = i < s.shape.size() ? i : 1;
        out.shape.push_back(s.shape[axis]), out.strides.push_back(s.strides[axis]);
      }
      return out;
    };
    const Spec in = last(from), out = last(to);
    const std::vector<int64_t> zeros(in.shape.size(), 0), ones(in.shape.size(), 1),
        region(in.shape.begin(), in.shape.end());
    const Attrs attrs{{{"start", zeros}, {"step", ones}, {"region", region}, {"base", int64_t{0}}, {"value", 0.0}}};
    return device_kernel("paste", {&in, 1}, {&out, 1}, attrs, c_.device);
  }
  Steps::Place bias(DType dtype) {
    const Spec seen = packed(dtype, c_.b.spec->shape);
    const bool dense = c_.b.spec->strides[0] == 1 || c_.b.spec->shape[0] == 1;
    if (dense && dtype == c_.b.spec->dtype) return {c_.b.place};
    const Steps::Place made = steps_->temporary(seen);
    steps_->add(copy(*c_.b.spec, seen, c_.device), {{c_.b.place}, made});
    return made;
  }
  /// y = max(0, y + b + z), in place.
  void finish_forward(Steps::Place y) {
    const Spec seen = form_.of(c_, c_.y);
    if (c_.b.spec) {
      Spec row = seen;
      row.strides = Dims::filled(seen.shape.size(), 0);
      row.strides[1] = 1;
      const Steps::Place b = bias(seen.dtype);
      steps_->add(sum_of(seen, row, seen, c_.device), {y, b, y});
    }
    if (c_.z.spec) steps_->add(sum_of(seen, *c_.z.spec, seen, c_.device), {y, {c_.z.place}, y});
    if (c_.relu) {
      const Attrs attrs{{{"loop", "relu"}, {"dtype", dtype_name(seen.dtype)}}};
      steps_->add(device_kernel("elemwise", {&seen, 1}, {&seen, 1}, attrs, c_.device), {y, y});
    }
  }
  void add_bias_gradient() {
    const Spec& dy = *c_.y.spec;
    std::vector<int64_t> axes{0};
    for (int i = 2; i < dy.shape.size(); ++i) axes.push_back(i);
    const Attrs attrs{{{"loop", "sum"}, {"dtype", "float32"}, {"axes", axes}}};
    steps_->add(device_kernel("reduce", {&dy, 1}, {c_.b.spec, 1}, attrs, c_.device), {{c_.y.place}, {c_.b.place}});
  }
  /// What was made in a temporary, without the channels that were filled up.
  void write_back(Steps::Place made) {
    if (made.operand >= 0) return;
    const Spec& out = *c_.out().spec;
    const Spec from{out.dtype, out.shape, form_.of(c_, c_.out()).strides, ""};
    steps_->add(copy(from, out, c_.device), {made, {c_.out().place}});
  }

  const ConvCall& c_;
  ConvForm form_;
  std::shared_ptr<Steps> steps_;
};

/// Null where cuDNN has no plan.
KernelPtr attempt(const ConvCall& c, const ConvForm& form) {
  const ConvProblem p = problem_of(c, form);
  auto plan = find_conv_plan(p, c.device);
  if (!plan) return nullptr;
  return Builder(c, form).build(std::make_shared<ConvKernel>(p, std::move(plan), c.device));
}

/// With what follows a convolution fused into it, else as steps: with channels filled up always, since engines for
/// images take nothing in, and those that do are several times as slow there.
KernelPtr attempt(const ConvCall& c, bool channels_last, int64_t channels) {
  const bool follows = c.direction == Direction::kForward && !channels && (c.b.spec || c.z.spec || c.relu);
  KernelPtr kernel = follows ? attempt(c, {channels_last, true, channels}) : nullptr;
  if (!kernel && !channels && c.b.spec && c.b.spec->dtype != c.y.spec->dtype)
    kernel = attempt(c, {channels_last, true, channels, true});
  return kernel ? kernel : attempt(c, {channels_last, false, channels});
}

/// Milliseconds of the kernel over the call's operands.
float time_of(const KernelPtr& kernel, const ConvCall& c) {
  std::vector<Spec> operands;
  for (const ConvCall::Operand* o : {&c.x, &c.w, &c.y, &c.b, &c.z, &c.sum, &c.squares}) {
    if (!o->spec) continue;
    operands.resize(std::max(operands.size(), static_cast<size_t>(o->place) + 1));
    operands[o->place] = *o->spec;
  }
  return cuda::time_of(*kernel, operands, c.device);
}

/// The quicker of a convolution as it is and one with channels filled up, as timed or as remembered; maybe null.
KernelPtr tuned_conv(const ConvCall& c, bool channels_last, int64_t filled) {
  const ChoiceFile file(c.device);
  const std::string problem = "channels of " + problem_of(c, {channels_last, false, 0}).str();
  EngineChoice choice;
  if (file.find(problem, choice)) return attempt(c, channels_last, choice.engine == filled ? filled : 0);
  KernelPtr few = attempt(c, channels_last, 0), all = attempt(c, channels_last, filled);
  if (!few || !all) return few ? few : all;
  choice.engine = time_of(all, c) < time_of(few, c) ? filled : 0;
  file.append(problem, choice);
  return choice.engine ? all : few;
}

KernelPtr library_conv(const ConvCall& c) {
  const bool last = prefers_channels_last(c);
  const int64_t filled = filled_channels(c, last);
  KernelPtr kernel;
  if (filled && library_settings().autotune)
    kernel = tuned_conv(c, last, filled);
  else if (filled && filling_pays(c, filled))
    kernel = attempt(c, last, filled);
  for (const bool layout : {last, !last})
    if (!kernel) kernel = attempt(c, layout, 0);
  return kernel;
}

bool library_has(const Spec& s) {
  return s.layout.empty() && (s.dtype == DType::kFloat32 || s.dtype == DType::kFloat16 || s.dtype == DType::kBFloat16);
}

// --- statistics
// -----------------------------------------------------------------------------------------------------------

constexpr double kStatistics = 0.08;  // of a convolution's time, that sums by the way cost at most, roughly

/// The convolution whose engine also adds up what it writes; null where cuDNN has none. Only for 16 bits, packed with
/// channels last as they are, which is what such engines take.
KernelPtr library_statistics(const ConvCall& c) {
  const bool whole = c.x.spec->shape[1] % 8 == 0 && itemsize(c.y.spec->dtype) == 2;
  const bool packed = is_packed(*c.x.spec, true) && is_packed(*c.w.spec, true) && is_packed(*c.y.spec, true);
  return whole && packed ? attempt(c, {true, true, 0}) : nullptr;
}

/// The same convolution alone.
ConvCall without_statistics(ConvCall c) {
  c.sum = c.squares = {};
  return c;
}

/// Nanoseconds of a pass over y for the sums, its launch and the small one behind it.
double statistics_pass(const ConvCall& c) {
  return elements(*c.y.spec) * static_cast<double>(itemsize(c.y.spec->dtype)) / kBytesMoved + kLaunch;
}

/// True where sums by the way cost less than a pass for them, as timed or as remembered.
bool timed_statistics_pay(const ConvCall& c) {
  const ChoiceFile file(c.device);
  const std::string problem = "pays: " + problem_of(c, {true, true, 0}).str();
  EngineChoice choice;
  if (file.find(problem, choice)) return choice.engine != 0;
  if (const KernelPtr both = library_statistics(c)) {
    const ConvCall plain = without_statistics(c);
    const KernelPtr alone = library_conv(plain);
    choice.engine = !alone || 1e6 * (time_of(both, c) - time_of(alone, plain)) < statistics_pass(c);
  }
  file.append(problem, choice);
  return choice.engine != 0;
}

/// The same by the numbers above.
bool statistics_pay(const ConvCall& c) {
  const double window = elements(*c.w.spec) / static_cast<double>(c.w.spec->shape[0]);
  const double item = static_cast<double>(itemsize(c.x.spec->dtype));
  const double moved = (elements(*c.x.spec) + elements(*c.w.spec) + elements(*c.y.spec)) * item / kBytesMoved;
  const double extra = kStatistics * std::max(moved, 2 * elements(*c.y.spec) * window / kFlops);
  return extra < statistics_pass(c) && library_statistics(c);
}

/// conv_fwd_stats: by one engine, or a convolution and a pass over what it wrote.
KernelPtr make_statistics(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  if (std::all_of(ins.begin(), ins.end(), library_has))
    if (KernelPtr kernel = library_statistics(call_of("conv_fwd_stats", ins, outs, attrs, device))) return kernel;
  auto steps = std::make_shared<Steps>();
  steps->add(make_conv("conv_fwd", ins, outs.first(1), attrs, device), {{0}, {1}, {2}});
  steps->add(device_kernel("channel_sums", outs.first(1), outs.subspan(1), {}, device), {{2}, {3}, {4}});
  return steps;
}

// --- what follows
// ----------------------------------------------------------------------------------------------------------

bool has_fused_engine(const ConvCall& c) {
  const bool last = prefers_channels_last(c);
  const int64_t filled = filled_channels(c, last);
  if (filled && (library_settings().autotune || filling_pays(c, filled))) return false;  // see attempt()
  for (const bool narrow : {false, true})
    if (find_conv_plan(problem_of(c, {last, true, 0, narrow}), c.device)) return true;
  return false;
}

/// True where a residual and a ReLU by the way cost less than a pass for them, as timed or as remembered.
bool timed_fusing_pays(const ConvCall& c) {
  const ChoiceFile file(c.device);
  const std::string problem = "fuses: " + problem_of(c, {prefers_channels_last(c), true, 0}).str();
  EngineChoice choice;
  if (file.find(problem, choice)) return choice.engine != 0;
  if (has_fused_engine(c)) {
    ConvCall plain = c;  // with its bias, which is folded from a norm or the layer's own
    plain.z = {}, plain.relu = false;
    const KernelPtr whole = library_conv(c), alone = library_conv(plain);
    const double moved = elements(*c.y.spec) * static_cast<double>(itemsize(c.y.spec->dtype)) * (c.z.spec ? 3 : 2);
    choice.engine = !alone || 1e6 * (time_of(whole, c) - time_of(alone, plain)) < moved / kBytesMoved + kLaunch;
  }
  file.append(problem, choice);
  return choice.engine != 0;
}

/// Zeros in every output that has elements: a sum over nothing.
KernelPtr nothing(std::span<const Spec> ins, std::span<const Spec> outs, int device) {
  auto steps = std::make_shared<Steps>();
  for (size_t i = 0; i < outs.size(); ++i)
    if (outs[i].size() != 0) steps->add(zeros(outs[i], device), {{static_cast<int>(ins.size() + i)}});
  return steps;
}

}  // namespace

KernelPtr make_conv(const std::string& name, std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs,
                    int device) {
  gpu(device).use();
  if (any_empty(ins) || any_empty(outs)) return nothing(ins, outs, device);
  if (name == "conv_fwd_stats") return make_statistics(ins, outs, attrs, device);
  if (std::all_of(ins.begin(), ins.end(), library_has))
    if (KernelPtr kernel = library_conv(call_of(name, ins, outs, attrs, device))) return kernel;
  return device_kernel(name + "_plain", ins, outs, attrs, device);
}

bool conv_fuses(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) {
  gpu(device).use();
  if (any_empty(ins) || any_empty(outs) || !std::all_of(ins.begin(), ins.end(), library_has)) return false;
  const ConvCall c = call_of("conv_fwd", ins, outs, attrs, device);
  return library_settings().autotune ? timed_fusing_pays(c) : has_fused_engine(c);
}

bool conv_statistics_pay(std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& attrs, int device) try {
  gpu(device).use();
  if (any_empty(ins) || any_empty(outs) || !std::all_of(ins.begin(), ins.end(), library_has)) return false;
  const ConvCall c = call_of("conv_fwd_stats", ins, outs, attrs, device);
  return library_settings().autotune ? timed_statistics_pay(c) : statistics_pay(c);
} catch (const Error&) {  // an engine that cannot be tried is none: the convolution alone will say what is wrong
  return false;
}

}  // namespace minimx::cuda
