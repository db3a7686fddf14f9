// The file is only ever appended to, a line at a time, so that processes may share it.
#include "cuda/choices.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cuda/device.h"
#include "cuda/libraries.h"
#include "cuda/library_kernels.h"

namespace minimx::cuda {

ChoiceFile::ChoiceFile(int device) {
  const std::string folder = library_settings().cache_folder;
  if (folder.empty()) return;
  std::string name = "cudnn-" + cudnn_version() + "-" + gpu(device).name() + ".txt";
  std::replace_if(name.begin(), name.end(), [](char c) { return c == ' ' || c == '/'; }, '_');
  std::error_code ignored;  // without the folder nothing is remembered
  std::filesystem::create_directories(folder, ignored);
  path_ = folder + "/" + name;
}

bool ChoiceFile::find(const std::string& problem, EngineChoice& choice) const {
  const std::string start = problem + " | ";
  std::ifstream file(path_);
  std::string line, chosen;
  while (std::getline(file, line))
    if (line.starts_with(start)) chosen = line.substr(start.size());
  std::istringstream words(chosen);
  if (!(words >> choice.engine)) return false;
  int64_t knob, value;
  for (char colon; words >> knob >> colon >> value;) choice.knobs.emplace_back(knob, value);
  return true;
}

void ChoiceFile::append(const std::string& problem, const EngineChoice& choice) const {
  if (path_.empty()) return;
  std::ostringstream line;
  line << problem << " | " << choice.engine;
  for (const auto& [knob, value] : choice.knobs) line << ' ' << knob << ':' << value;
  std::ofstream(path_, std::ios::app) << line.str() + "\n";
}

}  // namespace minimx::cuda
