// Sizes and places in the types that translation units share, as this one sees them.
#pragma once

#include <array>
#include <cstddef>
#include <tiedlora/tiedlora.hpp>

using SharedSizes = std::array<std::size_t, 20>;

namespace {

using F = tiedlora::Factors<const float>;
using T = tiedlora::Tokens<const float>;
using O = tiedlora::CallOptions;

constexpr SharedSizes sizes_here = {sizeof(F),
                                    offsetof(F, scaling),
                                    offsetof(F, name),
                                    sizeof(T),
                                    offsetof(T, first_feature),
                                    sizeof(tiedlora::Weight<float>),
                                    sizeof(O),
                                    offsetof(O, scratch),
                                    sizeof(tiedlora::Module),
                                    sizeof(tiedlora::ModuleList),
                                    sizeof(tiedlora::Scheme),
                                    sizeof(tiedlora::Layout),
                                    sizeof(tiedlora::LayoutOptions),
                                    sizeof(tiedlora::AlignedArray<float>),
                                    sizeof(tiedlora::Adapter<float>),
                                    alignof(tiedlora::Adapter<float>),
                                    sizeof(tiedlora::AdapterView<const float>),
                                    sizeof(tiedlora::Gradients<float>),
                                    sizeof(tiedlora::AdamW<float>),
                                    alignof(tiedlora::AdamW<float>)};

}  // namespace
