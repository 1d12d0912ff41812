"""IPAddress objects of Services, and the ServiceCIDRs that addresses are given out from."""
