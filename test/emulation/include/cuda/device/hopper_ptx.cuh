#pragma once
#include <cuda.h>
#include <cuda_runtime.h>
