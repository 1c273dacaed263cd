//! Where other hosts may reach this one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::StepError;

/// The addresses of this host's interfaces that are up, but for those that lead to itself or to one link only.
///
/// # Errors
///
/// [`StepError::System`] if the system does not tell.
pub fn own_addresses() -> Result<Vec<IpAddr>, StepError> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer is a valid place for the answer.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(StepError::system("ask for this host's addresses")(std::io::Error::last_os_error()));
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: the system gives a list that ends with a null pointer and stays until it is freed.
        let interface = unsafe { &*next };
        let up = interface.ifa_flags & libc::IFF_UP.cast_unsigned() != 0;
        // SAFETY: as above.
        found.extend(unsafe { address(interface.ifa_addr) }.filter(|address| up && leads_far(address)));
        next = interface.ifa_next;
    }
    // SAFETY: it is the list that was given, and nothing of it is kept.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// # Safety
///
/// The pointer is null or points to an address of its family.
unsafe fn address(pointer: *const libc::sockaddr) -> Option<IpAddr> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; the family says which structure it is.
    unsafe {
        match i32::from((*pointer).sa_family) {
            libc::AF_INET => {
                let address = std::ptr::read_unaligned(pointer.cast::<libc::sockaddr_in>());
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr))))
            }
            libc::AF_INET6 => {
                let address = std::ptr::read_unaligned(pointer.cast::<libc::sockaddr_in6>());
                Some(IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

fn leads_far(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_loopback() && !address.is_link_local() && !address.is_unspecified()
        }
        IpAddr::V6(address) => {
            !address.is_loopback() && !address.is_unicast_link_local() && !address.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_of_this_host_leads_to_itself_only() {
        let found = own_addresses().unwrap();
        assert!(found.iter().all(leads_far), "{found:?}");
        assert!(!leads_far(&IpAddr::V4(Ipv4Addr::LOCALHOST)) && !leads_far(&"fe80::1".parse().unwrap()));
        assert!(leads_far(&"10.0.0.1".parse().unwrap()));
    }
}
