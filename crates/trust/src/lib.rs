//! Who a message is from: SPF, DKIM, DMARC and ARC, the field that says so, signatures of our own, and reports to other sites.
