//! Looking names up: what a receiving and a sending site ask of DNS, with answers that part "no" from "not known".
