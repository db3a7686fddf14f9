// The one Backend of this module.
#pragma once
#include "runtime/backend.h"

namespace minimx::cuda {

Backend* backend();

}  // namespace minimx::cuda
