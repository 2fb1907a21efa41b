// The library's version; tests hold it against package.json.
#pragma once
#define PERSONASCOPE_VERSION "0.1.0"
