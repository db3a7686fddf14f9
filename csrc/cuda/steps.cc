// Temporaries lie one after another; the steps' scratch memory follows them.
#include "cuda/steps.h"

#include <algorithm>
#include <array>

namespace minimx::cuda {
namespace {

constexpr size_t kAlignment = 256;  // what every kernel's workspace has
constexpr size_t kMostPlaces = 8;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Steps::Place Steps::temporary(const Spec& spec) {
  const size_t at = temporaries_;
  temporaries_ += aligned(static_cast<size_t>(spec.size()) * itemsize(spec.dtype));
  return {-1, at};
}

void Steps::add(KernelPtr kernel, std::vector<Place> places) {
  auto device = std::dynamic_pointer_cast<const DeviceKernel>(kernel);
  if (!device || places.size() > kMostPlaces)
    throw Error(ErrorKind::kInternal, "steps: expected a device's kernel of up to 8 operands, got another.");
  scratch_ = std::max(scratch_, aligned(device->workspace_bytes()));
  steps_.push_back({std::move(device), std::move(places)});
}

void Steps::enqueue(void* const* data, void* workspace, StreamHandle stream) const {
  char* const base = static_cast<char*>(workspace);
  for (const Step& step : steps_) {
    std::array<void*, kMostPlaces> pointers;
    for (size_t i = 0; i < step.places.size(); ++i) {
      const Place& p = step.places[i];
      pointers[i] = p.operand >= 0 ? data[p.operand] : base + p.offset;
    }
    step.kernel->enqueue(pointers.data(), base + temporaries_, stream);
  }
}

}  // namespace minimx::cuda
