module mytype

go 1.19
