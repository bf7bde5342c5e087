"""Eigen or nlohmann/json as this machine has them, for a Conan without a registry (tests/hygiene/conan.sh):

    conan create packaging/conan/system --name eigen --version 3.4.0       # likewise nlohmann_json 3.11.2
"""

import os

from conan import ConanFile
from conan.tools.files import copy


class System(ConanFile):
    package_type = "header-library"
    places = {"eigen": "/usr/include/eigen3", "nlohmann_json": "/usr/include/nlohmann"}
    files = {"eigen": "Eigen3", "nlohmann_json": "nlohmann_json"}
    targets = {"eigen": "Eigen3::Eigen", "nlohmann_json": "nlohmann_json::nlohmann_json"}

    def package(self):
        folder = self.places[self.name]
        place = "include" if self.name == "eigen" else os.path.join("include", os.path.basename(folder))
        copy(self, "*", folder, os.path.join(self.package_folder, place))

    def package_info(self):
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", self.files[self.name])
        self.cpp_info.set_property("cmake_target_name", self.targets[self.name])
