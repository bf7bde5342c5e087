// Reads the golden files of tests/golden: values that PyTorch, PEFT and transformers computed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tiedlora_test {

/// A tensor of a golden file. The values are in C order: a (tokens, features) tensor is, byte for byte,
/// Eigen's column-major features × tokens. Float32 values and integers below 2^53 come back exactly.
struct GoldenTensor {
  std::vector<std::ptrdiff_t> dims;
  std::vector<double> values;

  template <class Scalar>
  std::vector<Scalar> as() const {
    std::vector<Scalar> converted;
    converted.reserve(values.size());
    for (const double value : values) converted.push_back(static_cast<Scalar>(value));
    return converted;
  }
};

/// One golden file; tests/golden/README.md says what each holds. Whatever is missing or malformed throws
/// std::runtime_error with the file and the name in its text.
class Golden {
 public:
  /// Reads a file of the folder TIEDLORA_GOLDEN_DIR, e.g. load("lora.golden"); an absolute path is taken as
  /// it is.
  static Golden load(const std::string& file) {
    Golden golden;
    golden.path_ = (std::filesystem::path(TIEDLORA_GOLDEN_DIR) / file).string();
    std::ifstream input(golden.path_);
    if (!input) golden.fail("cannot be opened; tests/golden/make_golden.py writes it");

    std::string line;
    while (std::getline(input, line)) {
      std::istringstream words(line);
      std::string word, key;
      words >> word;
      if (word == "#") continue;
      if (word == "meta" && words >> key) {
        std::getline(words >> std::ws, golden.metas_[key]);
      } else if (word == "tensor" && words >> key) {
        golden.tensors_[key] = golden.read_tensor(key, words, input);
      } else {
        golden.fail("has a line that is not a comment, meta or tensor: " + line);
      }
    }
    return golden;
  }

  const GoldenTensor& tensor(const std::string& name) const { return find(tensors_, "tensor", name); }

  const std::string& meta(const std::string& key) const { return find(metas_, "meta", key); }

  /// A meta that is a number.
  double number(const std::string& key) const {
    std::istringstream text(meta(key));
    double value = 0;
    if (!(text >> value) || !(text >> std::ws).eof())
      fail("meta '" + key + "' is not a number: " + meta(key));
    return value;
  }

  /// Every tensor by name, for tests that go through all of them.
  const std::map<std::string, GoldenTensor>& tensors() const { return tensors_; }

 private:
  GoldenTensor read_tensor(const std::string& name, std::istream& dims, std::istream& values) const {
    // Well above any golden file: a damaged dimension must not become an allocation.
    constexpr std::ptrdiff_t max_values = 1 << 24;
    GoldenTensor tensor;
    std::ptrdiff_t count = 1;
    for (std::ptrdiff_t dim = 0; dims >> dim;) {
      if (dim < 1 || dim > max_values / count) fail("tensor '" + name + "' has impossible dimensions");
      tensor.dims.push_back(dim);
      count *= dim;
    }
    if (tensor.dims.empty() || !dims.eof()) fail("tensor '" + name + "' has unreadable dimensions");

    tensor.values.resize(static_cast<std::size_t>(count));
    for (double& value : tensor.values) {
      if (!(values >> value)) {
        fail("tensor '" + name + "' ends before its " + std::to_string(count) + " values");
      }
    }
    std::string rest;
    if (std::getline(values, rest); rest.find_first_not_of(" \r") != std::string::npos) {
      fail("tensor '" + name + "' has more than its " + std::to_string(count) + " values");
    }
    return tensor;
  }

  template <class Map>
  const typename Map::mapped_type& find(const Map& map, const char* what, const std::string& name) const {
    const auto found = map.find(name);
    if (found == map.end()) fail("has no " + std::string(what) + " '" + name + "'");
    return found->second;
  }

  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(path_ + ": " + what); }

  std::string path_;
  std::map<std::string, std::string> metas_;
  std::map<std::string, GoldenTensor> tensors_;
};

}  // namespace tiedlora_test
