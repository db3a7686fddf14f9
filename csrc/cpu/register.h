// The kernels of this layer, made known by name. Each file of csrc/cpu registers its own; this is the list of them.
#pragma once

namespace minimx {
void register_cpu_kernels();
}
