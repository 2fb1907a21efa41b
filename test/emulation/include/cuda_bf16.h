// Nothing of it is used but the name.
#pragma once
