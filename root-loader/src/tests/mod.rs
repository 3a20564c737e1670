mod image;
mod layout;
mod paging;
