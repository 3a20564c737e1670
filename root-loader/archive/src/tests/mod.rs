mod archive;
mod flatten;
mod start_info;
