#!/usr/bin/python3
"""GStreamer's RTSP server with generated streams, for the tests of cameras.

    rtsp_server.py [--user NAME --password WORD --auth basic|digest] [--tls CERT.PEM KEY.PEM] [--port N]

Prints "port N" when it serves, and ends when its standard input does. Paths:

    /h264     640x360, 25 pictures a second, a key picture each second, G.711 mu-law
    /rare     the same without sound, a key picture every nine seconds
    /small    320x180, the same without sound
    /h265     320x180, H.265
    /bframes  320x180, H.264 with pictures that refer to later ones
    /aac      320x180, H.264, sound as AAC
    /mjpeg    320x180, MJPEG
    /load     640x360, H.264 at 2 Mbit/s
"""

import argparse
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

MOVING = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={},height={},framerate=25/1"
TONE = "audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate={},channels=1"


def h264(width, height, more="tune=zerolatency bframes=0", caps="video/x-h264"):
    encoder = f"x264enc speed-preset=ultrafast key-int-max=25 bitrate=400 {more}"
    return f"{MOVING.format(width, height)} ! {encoder} ! {caps} ! rtph264pay name=pay0 pt=96"


STREAMS = {
    "/h264": f"{h264(640, 360)}  {TONE.format(8000)} ! mulawenc ! rtppcmupay name=pay1 pt=0",
    "/small": h264(320, 180),
    "/rare": h264(640, 360).replace("key-int-max=25", "key-int-max=225"),
    "/h265": f"{MOVING.format(320, 180)} ! x265enc speed-preset=ultrafast tune=zerolatency key-int-max=25 bitrate=300"
    " ! rtph265pay name=pay0 pt=96",
    "/bframes": h264(320, 180, "bframes=2 b-adapt=false rc-lookahead=4", "video/x-h264,profile=main"),
    "/aac": f"{h264(320, 180)}  {TONE.format(16000)} ! avenc_aac ! rtpmp4gpay name=pay1 pt=97",
    "/load": h264(640, 360).replace("pattern=ball", "pattern=snow").replace("bitrate=400", "bitrate=2000"),
    "/mjpeg": f"{MOVING.format(320, 180)} ! jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def authenticator(options):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if options.auth == "digest":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(options.user, options.password, token)
    else:
        basic = GstRtspServer.RTSPAuth.make_basic(options.user, options.password)
        auth.add_basic(basic, token)
    return auth


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--auth", default="digest", choices=["basic", "digest"])
    parser.add_argument("--tls", nargs=2)
    options = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    auth = None
    if options.user:
        auth = authenticator(options)
    if options.tls:
        auth = auth or GstRtspServer.RTSPAuth()
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(*options.tls))
    if auth:
        server.set_auth(auth)
    role = Gst.Structure.new_from_string("user,media.factory.access=true,media.factory.construct=true")
    mounts = server.get_mount_points()
    for path, launch in STREAMS.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {launch} )")
        factory.set_shared(True)
        if options.user:
            factory.add_role_from_structure(role)
        mounts.add_factory(path, factory)
    if server.attach(None) == 0:
        sys.exit("rtsp_server.py: no port")
    print("port", server.get_bound_port(), flush=True)

    loop = GLib.MainLoop()

    def end_with_input():
        sys.stdin.read()
        loop.quit()

    threading.Thread(target=end_with_input, daemon=True).start()
    loop.run()


main()
