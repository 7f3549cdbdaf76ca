//! A real nginx; killed when dropped.

use super::{Folder, eventually, loopback, tool};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};

pub struct Nginx {
    pub address: SocketAddr,
    child: Child,
}

impl Nginx {
    /// `listen`: what follows the address; `server`: what its server does. `None`: no nginx here.
    pub fn start(folder: &Folder, listen: &str, server: &str) -> Option<Self> {
        let program = tool("nginx")?;
        let address = SocketAddr::from((loopback(), 8090));
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {{}}
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi; server {{ listen {address} {listen}; {server} }} }}"
        );
        let file = folder.write("nginx.conf", &text);
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(file).args(["-e", "stderr"]);
        let nginx = Self { address, child: command.spawn().unwrap() };
        eventually("nginx listens", || TcpStream::connect(address).ok().map(drop));
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).unwrap_or_else(|error| eprintln!("not killed: {error}"));
    }
}
