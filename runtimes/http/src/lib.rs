//! Calls tools on servers that speak HTTP.
