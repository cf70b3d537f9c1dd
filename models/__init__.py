"""Network definitions as MindSpore cells. `config` and `rotary` need numpy alone; the rest needs
mindspore."""
