"""The networks: Tri-Plane Mamba, the parts it is made of, and the networks it is compared with."""
