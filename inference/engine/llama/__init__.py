"""The engine on llama.cpp, through llama-cpp-python."""
