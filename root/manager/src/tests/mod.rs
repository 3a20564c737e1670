mod console;
mod definition;
mod fake;
mod life;
mod manager;
mod report;
mod sequences;
