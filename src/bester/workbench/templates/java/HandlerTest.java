import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.ReadableByteChannel;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/** The classes, and the handler as a server uses it. */
final class HandlerTest {
    interface Test {
        void run() throws Exception;
    }

    public static void main(String[] args) {
        Map<String, Test> tests = Map.of(
            "it answers with the data", HandlerTest::answersWithTheData,
            "frames are found however the stream is cut", HandlerTest::framesAreFound,
            "sizes are bounded", HandlerTest::sizesAreBounded,
            "members are found as they stand", HandlerTest::membersAreFound,
            "only strict JSON is read", HandlerTest::onlyStrictJsonIsRead,
            "strings are read and written", HandlerTest::stringsAreReadAndWritten,
            "it attaches, answers, and detaches", HandlerTest::attachesAnswersAndDetaches);
        int failed = 0;
        for (Map.Entry<String, Test> test : tests.entrySet()) {
            try {
                test.getValue().run();
                System.out.println("ok   " + test.getKey());
            } catch (Exception | AssertionError error) {
                System.out.println("FAIL " + test.getKey() + ": " + error);
                failed++;
            }
        }
        System.exit(failed);
    }

    static void same(Object got, Object wanted) {
        if (!wanted.equals(got)) throw new AssertionError("got " + got + ", wanted " + wanted);
    }

    static void fails(Class<? extends Exception> kind, Test test) {
        try {
            test.run();
        } catch (Exception error) {
            same(kind.isInstance(error), true);
            return;
        }
        throw new AssertionError("it does not fail");
    }

    static void answersWithTheData() throws Exception {
        Answer answer = Handler.answer(new Request("mytype", "a", "[ 1.50 ]", new Sender("t", null, true), "client"));
        same(answer, new Answer(List.of(Command.reply()), "[ 1.50 ]"));
        same(Command.sendClients("g", "\"").json(), "{\"type\":\"sendClients\",\"data\":[\"g\",\"\\\"\"]}");
    }

    /** Gives one byte at a time. */
    static ReadableByteChannel bytes(byte[] bytes) {
        return Channels.newChannel(new ByteArrayInputStream(bytes) {
            @Override
            public synchronized int read(byte[] into, int offset, int length) {
                return super.read(into, offset, 1);
            }
        });
    }

    static void framesAreFound() throws IOException {
        List<String> texts = List.of("{}", "{\"text\":\"môre 😀\"}", "null");
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        for (String text : texts) Frames.write(Channels.newChannel(written), text);
        ReadableByteChannel stream = bytes(written.toByteArray());
        for (String text : texts) same(Frames.read(stream), text);
        fails(IOException.class, () -> Frames.read(stream));
    }

    static void sizesAreBounded() {
        fails(IOException.class, () -> Frames.read(bytes(new byte[] {0, 0, 0, 0})));
        fails(IOException.class, () -> Frames.read(bytes(new byte[] {1, 0, 0x11, 0})));
        fails(IOException.class, () -> Frames.read(bytes(new byte[] {-1, -1, -1, -1})));
        fails(IOException.class, () -> Frames.read(bytes(new byte[] {1, 0, 0, 0, -1}))); // not UTF-8
    }

    static void membersAreFound() {
        String text = " {\"x\": {\"data\": 1}, \"d\\u0061ta\": [1, \"}\\\"\\\\\"] , \"n\":-0.10e+2, \"a\":1,\"a\": 2} ";
        Map<String, String> found = Json.members(text);
        same(found.get("data"), "[1, \"}\\\"\\\\\"]");
        same(found.get("n"), "-0.10e+2");
        same(found.get("a"), "2");
    }

    static void onlyStrictJsonIsRead() {
        List<String> texts = List.of(
            "", "1", "{", "{}x", "{'a'}", "{'a':}", "{'a':1,}", "{'a':[1,]}", "{a:1}", "{'a':01}", "{'a':1.}", "{'a':NaN}",
            "{'a':'\\x'}", "{'a':'\\u12'}", "{'a':'\n'}", "{'a':tru}", "{'a':1 2}", "{'a':'");
        for (String text : texts) fails(IllegalArgumentException.class, () -> Json.members(text.replace('\'', '"')));
        same(Json.members("{\"a\":" + "[".repeat(136) + "]".repeat(136) + "}").size(), 1);
        fails(IllegalArgumentException.class, () -> Json.members("{\"a\":" + "[".repeat(100_000)));
    }

    static void stringsAreReadAndWritten() {
        same(Json.string("\"m\\u00f4\\ud83d\\ude00\\n\\/é😀\""), "mô😀\n/é😀");
        same(Json.string(Json.quote("a\"\\\u0001é😀\ud83d")), "a\"\\\u0001é😀\ud83d");
        fails(IllegalArgumentException.class, () -> Json.string("1"));
    }

    static void expect(SocketChannel channel, String wanted) throws IOException {
        String got = Frames.read(channel);
        if (!got.contains(wanted)) throw new AssertionError("got " + got + ", wanted " + wanted);
    }

    static void report(SocketChannel channel, String id) throws IOException {
        String header = "{\"messageType\":\"statusReport\",\"status\":\"good\"}";
        Frames.write(channel, "{\"header\":" + header + ",\"payload\":{\"id\":\"" + id + "\"}}");
    }

    static void ask(SocketChannel channel, String id, String data) throws IOException {
        String header = "{\"messageType\":\"request\",\"id\":\"" + id + "\"}";
        Frames.write(channel, "{\"header\":" + header + ",\"payload\":{\"type\":\"mytype\",\"data\":" + data + "}}");
    }

    static void attachesAnswersAndDetaches() throws Exception {
        Path folder = Files.createTempDirectory("handler-");
        Path path = folder.resolve("s");
        CountDownLatch stopped = new CountDownLatch(1);
        try (ServerSocketChannel listener = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            listener.bind(UnixDomainSocketAddress.of(path));
            Service service = new Service(path.toString(), "mytype", 2, request -> {
                if (request.data().equals("1")) stopped.await(); // the other one does not wait for it
                if (request.data().equals("2")) throw new Refusal("mytype.no", "no", false);
                return Handler.answer(request);
            });
            Thread serving = new Thread(() -> {
                try {
                    service.serve();
                } catch (InterruptedException error) {
                    throw new IllegalStateException(error);
                }
            });
            serving.start();
            listener.accept().close(); // it comes again
            SocketChannel channel = listener.accept();
            expect(channel, "\"types\":[\"mytype\"]");
            report(channel, "attach");
            ask(channel, "a", "1");
            ask(channel, "b", "[ 1.50 ]");
            String commands = "\"commands\":[{\"type\":\"reply\"}]";
            expect(channel, "{\"header\":{\"id\":\"b\",\"status\":\"0\"," + commands + "},\"payload\":{\"data\":[ 1.50 ]}}");
            ask(channel, "c", "2");
            expect(channel, "\"id\":\"c\",\"status\":\"1\",\"error\":{\"code\":\"mytype.no\"");
            service.stop();
            expect(channel, "\"detach\"");
            report(channel, "detach");
            stopped.countDown();
            expect(channel, "\"id\":\"a\",\"status\":\"0\"");
            serving.join();
        } finally {
            Files.deleteIfExists(path);
            Files.delete(folder);
        }
    }
}
