mod archive;
mod start_info;
