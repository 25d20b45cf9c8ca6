//! Answers and the results they become.
