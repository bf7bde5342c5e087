// A folder for one test, removed at its end.
#pragma once

#include <unistd.h>  // getpid

#include <chrono>        // milliseconds
#include <filesystem>    // path
#include <fstream>       // ofstream
#include <string>        // string
#include <string_view>   // string_view
#include <system_error>  // error_code
#include <thread>        // sleep_for

namespace finetune {

class TestFolder {
 public:
  TestFolder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("tiedlora-finetune-" + std::to_string(getpid()) + "-" + std::to_string(count++));
    std::filesystem::create_directories(path_);
    path_ = std::filesystem::canonical(path_);
  }
  // Open MPI's daemon outlives its process and removes its own files here meanwhile: neither that one
  // has gone just now nor that one came just now is an error.
  ~TestFolder() {
    std::error_code error;
    for (int i = 0; i < 500; ++i) {
      std::filesystem::remove_all(path_, error);
      if (!std::filesystem::exists(path_, error)) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace finetune
