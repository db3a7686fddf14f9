// ChoiceFile: which of cuDNN's engines was fastest for a problem, remembered from process to process.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace minimx::cuda {

/// An engine of cuDNN with its settings: knobs and their values.
struct EngineChoice {
  int64_t engine = 0;
  std::vector<std::pair<int64_t, int64_t>> knobs;
};

/// Lines "problem | engine knob:value ...", in one file for each version of cuDNN and kind of device.
class ChoiceFile {
 public:
  explicit ChoiceFile(int device);

  /// False where the problem is not in the file. Of several lines the last one counts.
  bool find(const std::string& problem, EngineChoice& choice) const;
  void append(const std::string& problem, const EngineChoice& choice) const;

 private:
  std::string path_;  // empty: nothing is remembered
};

}  // namespace minimx::cuda
