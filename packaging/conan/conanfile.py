"""tiedlora for Conan 2: `conan create packaging/conan` from a checkout."""

import os

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy
from conan.tools.layout import basic_layout

required_conan_version = ">=2.0"


class Tiedlora(ConanFile):
    name = "tiedlora"
    version = "0.1.0"
    description = "Low-rank adapters tied across layers, header-only, on Eigen"
    license = "MIT"
    topics = ("lora", "tied-lora", "vera", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"  # of who builds against it; the package is one for all
    no_copy_source = True

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..")
        for pattern in ("include/*.hpp", "LICENSE"):
            copy(self, pattern, root, self.export_sources_folder)

    def requirements(self):
        self.requires("eigen/[>=3.4 <6]", transitive_headers=True)
        self.requires("nlohmann_json/[>=3.11.2 <4]", transitive_headers=True)  # of tiedlora::io

    def validate(self):
        check_min_cppstd(self, 20)

    def layout(self):
        basic_layout(self)

    def package_id(self):
        self.info.clear()

    def package(self):
        copy(self, "*.hpp", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_info(self):
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "tiedlora")
        core, io = self.cpp_info.components["tiedlora"], self.cpp_info.components["io"]
        for component in (core, io):
            component.bindirs = component.libdirs = []
        core.set_property("cmake_target_name", "tiedlora::tiedlora")
        core.set_property("pkg_config_name", "tiedlora")
        core.requires = ["eigen::eigen"]
        io.set_property("cmake_target_name", "tiedlora::io")
        io.set_property("pkg_config_name", "tiedlora-io")
        io.requires = ["tiedlora", "nlohmann_json::nlohmann_json"]
